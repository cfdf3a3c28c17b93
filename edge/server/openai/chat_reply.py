"""The response of POST /v1/chat/completions, in one piece."""

from collections.abc import Sequence
from typing import Any, Literal

from runtime.events import Event, Finish
from runtime.reply.reply import Reply

from ..generation.fields import RequestModel
from .chat_messages import CalledFunction
from .tokens import TokenReply, UsageReply

ChatFinishReason = Literal["stop", "length", "tool_calls"]


class CallReply(RequestModel):
    """A tool call."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class LogprobsReply(RequestModel):
    """The log-probabilities of the content's tokens."""

    content: list[TokenReply]
    refusal: None = None


class MessageReply(RequestModel):
    """The assistant's message, with the reasoning that came before its content."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | None = None
    tool_calls: list[CallReply] | None = None


class ChatChoice(RequestModel):
    """One of the replies."""

    index: int
    message: MessageReply
    logprobs: LogprobsReply | None = None
    finish_reason: ChatFinishReason


class ChatCompletion(RequestModel):
    """The replies to a chat request, and their usage together."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageReply


def to_completion(base: dict[str, Any], replies: Sequence[Sequence[Event]], logprobs: bool) -> dict[str, Any]:
    """Convert the events of each reply to a ChatCompletion, as JSON. `base` has its id, time and model."""
    usage = UsageReply.of([event.usage for reply in replies for event in reply if isinstance(event, Finish)])
    choices = [to_choice(index, reply, logprobs) for index, reply in enumerate(replies)]
    out = ChatCompletion(**base, choices=choices, usage=usage).model_dump(mode="json")
    for choice in out["choices"]:  # some clients mistake a null for a list
        choice["message"] = {k: v for k, v in choice["message"].items() if v is not None or k in ("content", "refusal")}
    return out


def to_choice(index: int, events: Sequence[Event], logprobs: bool) -> ChatChoice:
    """Convert the events of a reply."""
    reply = Reply.from_events(events)
    calls = [CallReply(id=c.id, function=CalledFunction(name=c.name, arguments=c.arguments)) for c in reply.tool_calls]
    message = MessageReply(
        content=reply.text if reply.text or not calls else None,
        reasoning_content=reply.reasoning or None,
        tool_calls=calls or None,
    )
    tokens = LogprobsReply.model_validate({"content": TokenReply.of(reply.logprobs)}) if logprobs else None
    reason = finish_reason(reply.finish_reason, bool(calls))
    return ChatChoice(index=index, message=message, logprobs=tokens, finish_reason=reason)


def finish_reason(reason: str, has_calls: bool) -> ChatFinishReason:
    """Convert the runtime's finish reason."""
    return "length" if reason == "length" else "tool_calls" if has_calls else "stop"
