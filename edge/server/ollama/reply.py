"""The replies of Ollama's API, in one piece or as lines of JSON."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from runtime import strict_json
from runtime.events import Event, Finish, Logprobs, Reasoning, Text, TokenLogprob, ToolCall, Usage
from runtime.reply.reply import Reply

from ..errors import ApiError
from ..generation.fields import RequestModel
from .api_error import error_body

NDJSON = "application/x-ndjson"
Fields = Callable[[str, str, Sequence[Mapping[str, Any]]], dict[str, Any]]


class CalledFunctionReply(RequestModel):
    """The function of a tool call."""

    index: int
    name: str
    arguments: dict[str, Any]


class OllamaCallReply(RequestModel):
    """A tool call."""

    id: str
    function: CalledFunctionReply


class OllamaMessageReply(RequestModel):
    """The assistant's message, or a piece of it."""

    role: str = "assistant"
    content: str
    thinking: str | None = None
    tool_calls: list[OllamaCallReply] | None = None


class OllamaTokenReply(RequestModel):
    """A token, and its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenTokenReply(OllamaTokenReply):
    """A token of the content, and the most probable ones in its place, if they were asked for."""

    top_logprobs: list[OllamaTokenReply] | None = None


class ReplyFields(RequestModel):
    """The fields that the replies share: the last five, in nanoseconds and tokens, only once it is `done`.

    `load_duration` is the time until the engine began: of waiting for a turn, and of loading the model.
    """

    model: str
    created_at: str
    done: bool
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: list[ChosenTokenReply] | None = None


class ChatReply(ReplyFields):
    """The reply of POST /api/chat, or a line of it."""

    message: OllamaMessageReply


class GenerateReply(ReplyFields):
    """The reply of POST /api/generate, or a line of it."""

    response: str
    thinking: str | None = None


def chat_fields(content: str, thinking: str, calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a piece of a reply in the fields of /api/chat."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    return {"message": message | _given(thinking=thinking, tool_calls=calls)}


def generate_fields(content: str, thinking: str, calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a piece of a reply in the fields of /api/generate."""
    return {"response": content} | _given(thinking=thinking, tool_calls=calls)


@dataclass(slots=True)
class ReplyLines:
    """An encoder of a reply's events as lines of JSON, and of a whole reply. `fields` lays out a piece as the endpoint
    does. Without `thinking`, the reasoning is left out."""

    model: str
    fields: Fields
    thinking: bool = True
    media_type: str = NDJSON
    _start: float = field(default_factory=time.perf_counter)
    _calls: int = 0
    _logprobs: tuple[TokenLogprob, ...] = ()  # of the next text

    @property
    def heartbeat(self) -> str:
        """An empty piece: this format has no comments, and clients skip no blank lines."""
        return _line(self._piece(""))

    def opening(self) -> str:
        """Encode nothing: the first line is the first piece."""
        return ""

    def encode(self, index: int, event: Event) -> str:
        """Encode an event; log-probabilities go with the text that follows them, a call comes in one piece."""
        match event:
            case Logprobs(tokens):
                self._logprobs = tokens
            case Text(text):
                tokens, self._logprobs = self._logprobs, ()
                return _line(self._piece(text) | _given(logprobs=_tokens(tokens)))
            case Reasoning(text) if self.thinking:
                return _line(self._piece("", text))
            case ToolCall():
                content, calls = self._encode_calls([event])
                return _line(self._piece(content, "", calls))
            case Finish(reason, usage):
                return _line(self._piece("") | self._ending(reason, usage))
        return ""

    def ending(self) -> str:
        """Encode nothing: the last line is that of the last event."""
        return ""

    def failure(self, error: ApiError) -> str:
        """Encode an error."""
        return _line(error_body(error))

    def whole(self, events: Sequence[Event]) -> dict[str, Any]:
        """Return the reply in one piece."""
        reply = Reply.from_events(events)
        content, calls = self._encode_calls(reply.tool_calls)
        piece = self._piece(reply.text + content, reply.reasoning if self.thinking else "", calls)
        logprobs = _given(logprobs=_tokens(reply.logprobs))
        return piece | self._ending(reply.finish_reason, reply.usage) | logprobs

    def empty(self, reason: str) -> dict[str, Any]:
        """Return the reply to a request without a prompt, which loads or unloads the model."""
        return self._piece("") | {"done": True, "done_reason": reason}

    def _encode_calls(self, calls: Sequence[ToolCall]) -> tuple[str, list[dict[str, Any]]]:
        """Return the calls, and as text those whose arguments are not a JSON object, which this API requires."""
        text, found = "", []
        for call in calls:
            if call.problem:
                text += f"{call.name}\n{call.arguments}"
                continue
            arguments = strict_json.parse(call.arguments)
            function = {"index": self._calls, "name": call.name, "arguments": arguments}
            found.append({"id": call.id, "function": function})
            self._calls += 1
        return text, found

    def _piece(self, content: str, thinking: str = "", calls: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        base = {"model": self.model, "created_at": timestamp(datetime.now(UTC))}
        return base | self.fields(content, thinking, calls) | {"done": False}

    def _ending(self, reason: str, usage: Usage) -> dict[str, Any]:
        seconds = time.perf_counter() - self._start
        return {
            "done": True,
            "done_reason": "length" if reason == "length" else "stop",
            "total_duration": _nanoseconds(seconds),
            "load_duration": _nanoseconds(seconds - usage.seconds),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(usage.ttft),
            "eval_count": usage.completion_tokens,
            "eval_duration": _nanoseconds(usage.seconds - usage.ttft),
        }


def timestamp(moment: datetime) -> str:
    """Format a moment in UTC as Ollama does."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _given(**fields: Any) -> dict[str, Any]:
    """Return those fields that are not empty."""
    return {name: value for name, value in fields.items() if value}


def _tokens(tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    return [
        {"token": token.text, "logprob": max(token.logprob, -9999.0), "bytes": list(token.bytes)}
        | _given(top_logprobs=_tokens(token.top))
        for token in tokens
    ]


def _nanoseconds(seconds: float) -> int:
    return round(max(seconds, 0.0) * 1e9)


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
