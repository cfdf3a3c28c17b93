"""The response of POST /v1/messages while it is generated, and the events of its stream."""

from hashlib import sha256
from typing import Any
from uuid import uuid4

from pydantic_core import from_json

from runtime.events import Event, Finish, Reasoning, Text, ToolCall, ToolCallDelta, Usage

from ..errors import ApiError
from ..pool.event_stream import SSE, sse
from .error_format import error_body
from .message_request import CountTokensRequest

Block = dict[str, Any]
_DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}


class MessageStream:
    """An encoder of a reply's events as Anthropic's stream of events. It collects them in `whole`, the message. The
    number of the prompt's tokens is known at the end of the stream."""

    media_type = SSE
    heartbeat = sse({"type": "ping"}, "ping")

    def __init__(self, body: CountTokensRequest, name: str) -> None:
        self.whole: dict[str, Any] = {
            "id": f"msg_{uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": name,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(Usage()),
        }
        self._shows_thinking = body.shows_thinking
        self._omits_thinking = body.thinking is not None and body.thinking.display == "omitted"
        self._open: Block | None = None  # the block in progress, the last of the content
        self._pieces: list[str] = []  # its text, reasoning or input so far

    def opening(self) -> str:
        """Encode the message, empty yet."""
        return self._send("message_start", message=self.whole)

    def encode(self, index: int, event: Event) -> str:
        """Encode an event, after the events that close the block before it."""
        match event:
            case Text(text) if text:
                return self._begin("text", text="") + self._delta(text)
            case Reasoning(text) if text and self._shows_thinking:
                return self._begin("thinking", thinking="", signature="") + self._delta(text)
            case ToolCallDelta(id, name, arguments):
                return self._begin("tool_use", id=id, name=name, input={}) + self._delta(arguments)
            case ToolCall(name, arguments, id):
                out = ""
                if self._open is None or self._open.get("id") != id:
                    out = self._begin("tool_use", id=id, name=name, input={}) + self._delta(arguments)
                return out + self._close()
            case Finish():
                return self._finish(event)
        return ""

    def ending(self) -> str:
        """Encode nothing: the end of the message is the last event."""
        return ""

    def failure(self, error: ApiError) -> str:
        """Encode an error."""
        return sse(error_body(error), "error")

    def _begin(self, kind: str, **fields: Any) -> str:
        """Open a block, unless the one in progress goes on."""
        if self._open is not None and self._open["type"] == kind and self._open.get("id") == fields.get("id"):
            return ""
        out = self._close()
        self._open, self._pieces = {"type": kind, **fields}, []
        self.whole["content"].append(self._open)
        return out + self._send("content_block_start", index=self._index, content_block=self._open)

    def _delta(self, text: str) -> str:
        assert self._open is not None, "there is no block"
        if not text or (self._open["type"] == "thinking" and self._omits_thinking):
            return ""
        self._pieces.append(text)
        kind, field = _DELTAS[self._open["type"]]
        return self._send("content_block_delta", index=self._index, delta={"type": kind, field: text})

    def _close(self) -> str:
        block, self._open = self._open, None
        if block is None:
            return ""
        text, out = "".join(self._pieces), ""
        if block["type"] == "tool_use":
            block["input"] = _parse_input(text)
        else:
            block[block["type"]] = text
        if block["type"] == "thinking":
            block["signature"] = sha256(text.encode()).hexdigest()
            delta = {"type": "signature_delta", "signature": block["signature"]}
            out = self._send("content_block_delta", index=self._index, delta=delta)
        return out + self._send("content_block_stop", index=self._index)

    def _finish(self, finish: Finish) -> str:
        out = self._close()
        if finish.reason == "length":
            reason = "max_tokens"
        elif finish.stop_text:
            reason = "stop_sequence"
        elif any(block["type"] == "tool_use" for block in self.whole["content"]):
            reason = "tool_use"
        else:
            reason = "end_turn"
        ended = {"stop_reason": reason, "stop_sequence": finish.stop_text or None}
        self.whole |= ended | {"usage": _usage(finish.usage)}
        return out + self._send("message_delta", delta=ended, usage=self.whole["usage"]) + self._send("message_stop")

    @property
    def _index(self) -> int:
        return len(self.whole["content"]) - 1

    def _send(self, kind: str, **fields: Any) -> str:
        return sse({"type": kind} | fields, kind)


def _usage(usage: Usage) -> dict[str, int]:
    """Return the usage as Anthropic counts it: its input tokens are those that no cache had."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _parse_input(arguments: str) -> dict[str, Any]:
    """Return a call's input. One that was cut off has what had come until then; the text of one that is not JSON is
    under the name that Anthropic recommends for it."""
    try:
        parsed = from_json(arguments, allow_partial=True) if arguments else {}
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"INVALID_JSON": arguments}
