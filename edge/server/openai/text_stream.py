"""The response of POST /v1/completions, streamed, and the log-probabilities of its tokens."""

import codecs
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel

from runtime.messages import Event, Finish, Logprobs, Text, TokenLogprob, Usage

from ..errors import ApiError
from ..pool.event_stream import SSE, SSE_COMMENT, sse
from .tokens import finite_logprob, stream_ending


class TextLogprobs(BaseModel):
    """The log-probabilities of a text's tokens. `text_offset` is where each token begins, in characters."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: None = None
    text_offset: list[int]

    @classmethod
    def of(cls, tokens: Sequence[TokenLogprob], start: int) -> "TextLogprobs":
        """Convert the tokens of a text that begins at character `start`."""
        decoder, offsets = codecs.getincrementaldecoder("utf-8")("replace"), []
        for token in tokens:
            offsets.append(start)
            start += len(decoder.decode(token.bytes))
        logprobs = [finite_logprob(t.logprob) for t in tokens]
        return cls(tokens=[t.text for t in tokens], token_logprobs=logprobs, text_offset=offsets)


class TextChunkStream:
    """An encoder of `count` continuations' events as text_completion objects, each after the `echo` of its prompt."""

    media_type = SSE
    heartbeat = SSE_COMMENT

    def __init__(self, base: dict[str, Any], count: int, echo: str, include_usage: bool) -> None:
        self._base = base | {"object": "text_completion"}
        self._echo = echo
        self._include_usage = include_usage
        self._usages: list[Usage] = []
        self._offsets = [0] * count  # characters of each text so far
        self._logprobs: dict[int, Sequence[TokenLogprob]] = {}  # of each continuation's next text

    def opening(self) -> str:
        """Encode the prompt for each continuation, if it is echoed."""
        return "".join([self._chunk(index, self._echo) for index in range(len(self._offsets)) if self._echo])

    def encode(self, index: int, event: Event) -> str:
        """Encode an event; log-probabilities go with the text that follows them."""
        match event:
            case Logprobs(tokens):
                self._logprobs[index] = tokens
            case Text(text):
                return self._chunk(index, text)
            case Finish(reason, usage):
                self._usages.append(usage)
                return self._chunk(index, "", text_finish_reason(reason))
        return ""

    def ending(self) -> str:
        """Encode the usage, if it is included, and [DONE]."""
        return stream_ending(self._base, self._usages if self._include_usage else None)

    def failure(self, error: ApiError) -> str:
        """Encode an error."""
        return sse(error.body())

    def _chunk(self, index: int, text: str, reason: str | None = None) -> str:
        logprobs = None
        if index in self._logprobs:
            logprobs = TextLogprobs.of(self._logprobs.pop(index), self._offsets[index]).model_dump()
        self._offsets[index] += len(text)
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return sse(self._base | {"choices": [choice]})


def text_finish_reason(reason: str) -> Literal["stop", "length"]:
    """Convert the runtime's finish reason."""
    return "length" if reason == "length" else "stop"
