"""The response of POST /v1/chat/completions, streamed."""

from collections.abc import Sequence
from typing import Any

from runtime.events import Event, Finish, Logprobs, Reasoning, Text, TokenLogprob, ToolCall, ToolCallDelta, Usage

from ..errors import ApiError
from ..pool.event_stream import SSE, SSE_COMMENT, sse
from .chat_reply import finish_reason
from .tokens import TokenReply, stream_ending


class ChunkStream:
    """An encoder of `count` replies' events as chat.completion.chunk objects. `base` has their id, time and model."""

    media_type = SSE
    heartbeat = SSE_COMMENT

    def __init__(self, base: dict[str, Any], count: int, include_usage: bool) -> None:
        self._base = base | {"object": "chat.completion.chunk"}
        self._count = count
        self._include_usage = include_usage
        self._usages: list[Usage] = []
        self._logprobs: dict[int, Sequence[TokenLogprob]] = {}  # of each reply's next text
        self._calls: list[list[str]] = [[] for _ in range(count)]  # the ids of each reply's calls, in their order

    def opening(self) -> str:
        """Encode the role of each reply."""
        return "".join([self._chunk(index, {"role": "assistant", "content": ""}) for index in range(self._count)])

    def encode(self, index: int, event: Event) -> str:
        """Encode an event; log-probabilities go with the text that follows them."""
        calls = self._calls[index]
        match event:
            case Logprobs(tokens):
                self._logprobs[index] = tokens
            case Text(text):
                return self._chunk(index, {"content": text}, tokens=self._logprobs.pop(index, None))
            case Reasoning(text):
                return self._chunk(index, {"reasoning_content": text})
            case ToolCallDelta(id, name, arguments) | ToolCall(name, arguments, id) if id not in calls:
                calls.append(id)
                function = {"name": name, "arguments": arguments}
                call = {"index": len(calls) - 1, "id": id, "type": "function", "function": function}
                return self._chunk(index, {"tool_calls": [call]})
            case ToolCallDelta(id, _, arguments):
                piece = {"index": calls.index(id), "function": {"arguments": arguments}}
                return self._chunk(index, {"tool_calls": [piece]})
            case Finish(reason, usage):
                self._usages.append(usage)
                return self._chunk(index, {}, finish_reason(reason, bool(calls)))
        return ""

    def ending(self) -> str:
        """Encode the usage, if it is included, and [DONE]."""
        return stream_ending(self._base, self._usages if self._include_usage else None)

    def failure(self, error: ApiError) -> str:
        """Encode an error."""
        return sse(error.body())

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        reason: str | None = None,
        tokens: Sequence[TokenLogprob] | None = None,
    ) -> str:
        logprobs = None if tokens is None else {"content": TokenReply.of(tokens), "refusal": None}
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return sse(self._base | {"choices": [choice]} | ({"usage": None} if self._include_usage else {}))
