"""What is said: the messages of a chat, and the events of a reply while it is generated. All are frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "rounds"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer. The pieces of a reply add up to its whole text."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thought before it answered."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the model wrote it: `arguments` is its JSON text, broken JSON included.

    `complete` is False when the reply ended inside the arguments; `arguments` then holds what arrived.
    """

    name: str
    arguments: str
    id: str = ""
    complete: bool = True


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back to the model; `error` when it was refused or its function raised."""

    call_id: str
    name: str
    content: str
    error: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and seconds of a reply, all its rounds together. `ttft` is the time to the first token of the first."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft: float = 0.0
    seconds: float = 0.0

    def __add__(self, later: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + later.prompt_tokens,
            self.completion_tokens + later.completion_tokens,
            self.ttft or later.ttft,
            self.seconds + later.seconds,
        )


@dataclass(frozen=True, slots=True)
class Finish:
    """The last event of a reply.

    `reason` is "stop", "length" (the token limit) or "rounds" (the model kept calling tools).
    """

    reason: FinishReason
    usage: Usage = field(default_factory=Usage)


Event = Text | Reasoning | ToolCall | ToolResult | Finish


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat. `tool_call_id` and `name` belong to a tool's message, `tool_calls` to the assistant's."""

    role: Role
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    def to_json(self) -> dict[str, Any]:
        """The message in the layout of OpenAI's chat API, empty fields left out."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning:
            out["reasoning_content"] = self.reasoning
        if self.tool_calls:
            out["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        if self.role == "tool":
            out |= {"tool_call_id": self.tool_call_id, "name": self.name}
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Message":
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError on anything else."""
        role = data["role"]
        if role not in ("system", "user", "assistant", "tool"):
            raise ValueError(f"unknown role {role!r}")
        calls = tuple(
            ToolCall(_text(call["function"]["name"]), _text(call["function"]["arguments"]), _text(call.get("id", "")))
            for call in data.get("tool_calls") or ()
        )
        return cls(
            role,
            _text(data.get("content") or ""),
            _text(data.get("reasoning_content") or ""),
            calls,
            _text(data.get("tool_call_id") or ""),
            _text(data.get("name") or ""),
        )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value
