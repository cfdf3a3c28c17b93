"""The messages of Ollama's chat API."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, field_validator

from runtime.errors import RequestError
from runtime.messages import Message
from runtime.pictures import Picture

from ..errors import ApiError
from ..generation.content import read_base64
from ..generation.fields import LIST_LIMIT, RequestModel
from ..limits import Limits


class OllamaCalledFunction(RequestModel):
    """The function of a tool call. Some clients send the arguments as JSON text."""

    name: Annotated[str, Field(min_length=1)]
    arguments: dict[str, Any] | str | None = None


class ChatCall(RequestModel):
    """A tool call of an earlier reply."""

    id: str | None = None
    function: OllamaCalledFunction


class OllamaChatMessage(RequestModel):
    """A message of any role. A tool's result names its call by `tool_call_id`, by `tool_name`, or by its place."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: Annotated[list[Any], LIST_LIMIT] | None = None
    tool_calls: Annotated[list[ChatCall], LIST_LIMIT] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None

    @field_validator("role")
    @classmethod
    def _to_lower_case(cls, role: str) -> str:
        return role.lower()


def to_messages(body: Sequence[OllamaChatMessage], limits: Limits) -> list[Message]:
    """Convert a request's messages. A call without an id gets one, and its result the same. Raises ApiError for too
    many messages, or for one that the model cannot read."""
    if len(body) > limits.messages:
        raise ApiError(400, f"there are more than {limits.messages:,} messages", param="messages", code="too_many")
    messages: list[Message] = []
    unanswered: list[ChatCall] = []
    for index, message in enumerate(body):
        param = f"messages[{index}]"
        data: dict[str, Any] = {
            "role": message.role,
            "content": message.content,
            "reasoning_content": message.thinking,
        }
        if message.tool_calls:
            unanswered = [
                call.model_copy(update={"id": call.id or f"call_{index}_{place}"})
                for place, call in enumerate(message.tool_calls)
            ]
            data["tool_calls"] = [call.model_dump(exclude_none=True) for call in unanswered]
        if message.role == "tool":
            call = _find_call(message, unanswered)
            if call is not None:
                unanswered.remove(call)
            data["tool_call_id"] = message.tool_call_id or (call.id if call else None)
            data["name"] = message.tool_name or (call.function.name if call else None)
        try:
            pictures = to_pictures(message.images, f"{param}.images")
            messages.append(replace(Message.from_json(data), pictures=pictures))
        except RequestError as exc:
            raise ApiError(400, f"{param}: {exc}; {exc.hint}", param=param, code="invalid_value") from exc
    return messages


def _find_call(result: OllamaChatMessage, unanswered: Sequence[ChatCall]) -> ChatCall | None:
    """Return the call that a tool's message answers: the one it names, or else the first that is unanswered."""
    if result.tool_call_id:
        return next((call for call in unanswered if call.id == result.tool_call_id), None)
    named = [call for call in unanswered if call.function.name == result.tool_name]
    return next(iter([*named, *unanswered]), None)


def to_pictures(images: Sequence[Any] | None, param: str) -> tuple[Picture, ...]:
    """Return pictures, each a file in base64. Raises ApiError."""
    return tuple(read_base64(image, f"{param}[{index}]") for index, image in enumerate(images or ()))
