"""The messages of OpenAI's chat API."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from runtime.errors import RequestError
from runtime.messages import Message

from ..errors import ApiError
from ..generation.fields import LIST_LIMIT, RequestModel
from ..limits import Limits


class TextPart(RequestModel):
    """A piece of a message's text."""

    type: Literal["text"]
    text: str


class ImageUrl(RequestModel):
    """A picture as a `data:` URL. Its `detail` is ignored: the model reads each picture in one resolution."""

    url: str
    detail: str | None = None


class ImagePart(RequestModel):
    """A picture in a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class CalledFunction(RequestModel):
    """The function of a tool call; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"


class AssistantCall(RequestModel):
    """A tool call of an earlier reply."""

    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(RequestModel):
    """A message of any role. `developer` is `system` under a later name."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], LIST_LIMIT] | None = None
    reasoning_content: str | None = None
    tool_calls: Annotated[list[AssistantCall], LIST_LIMIT] | None = None
    tool_call_id: str | None = None
    name: str | None = None


def to_messages(body: Sequence[ChatMessage], limits: Limits) -> list[Message]:
    """Convert a request's messages. Raises ApiError for too many, or for one that the model cannot read."""
    if len(body) > limits.messages:
        raise ApiError(400, f"there are more than {limits.messages:,} messages", param="messages", code="too_many")
    messages = []
    for index, message in enumerate(body):
        try:
            messages.append(Message.from_json(message.model_dump(exclude_none=True)))
        except RequestError as exc:
            raise ApiError(400, f"{exc}; {exc.hint}", param=f"messages[{index}]", code="invalid_value") from exc
    return messages
