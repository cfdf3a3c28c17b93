"""The response of POST /v1/completions, streamed, and the log-probabilities of its tokens."""

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from runtime.events import Event, Finish, Logprobs, PromptLogprobs, Text, TokenLogprob, Usage

from ..errors import ApiError
from ..pool.event_stream import SSE, SSE_COMMENT, sse
from .completion_request import CompletionRequest
from .tokens import UsageReply, finite_logprob


class TextLogprobs(BaseModel):
    """The log-probabilities of a text's tokens; None for the first token of a prompt. `text_offset` is where each token
    begins, in characters. Each of `top_logprobs` has the most probable tokens, and the one that stands there."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int]

    @classmethod
    def of(
        cls, tokens: Sequence[TokenLogprob], start: int, *, top: int = 0, as_ids: bool = False, first: bool = False
    ) -> "TextLogprobs":
        """Convert the tokens of a text that begins at character `start`. With `as_ids`, tokens are written as vLLM's
        "token_id:1". The `first` one follows nothing, and has no log-probability."""
        decoder, offsets = codecs.getincrementaldecoder("utf-8")("replace"), []
        for token in tokens:
            offsets.append(start)
            start += len(decoder.decode(token.bytes))

        def name(token: TokenLogprob) -> str:
            return f"token_id:{token.id}" if as_ids else token.text

        def alternatives(token: TokenLogprob) -> dict[str, float]:
            found: dict[str, float] = {}
            for other in (*token.top, token):
                found.setdefault(name(other), finite_logprob(other.logprob))
            return found

        logprobs: list[float | None] = [finite_logprob(token.logprob) for token in tokens]
        tops: list[dict[str, float] | None] = [alternatives(token) for token in tokens] if top else []
        if first:
            logprobs[:1], tops[:1] = [None], [None] if top else []
        return cls(
            tokens=[name(token) for token in tokens],
            token_logprobs=logprobs,
            top_logprobs=tops if top else None,
            text_offset=offsets,
        )


@dataclass(slots=True)
class _Choice:
    """The state of a choice: characters sent so far, the prompt's among them, tokens of the reply so far, and those of
    its next text. `echoed` decodes the prompt's tokens."""

    sent: int = 0
    count: int = 0
    next: list[TokenLogprob] = field(default_factory=list)
    echoed: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    usage: Usage = field(default_factory=Usage)


class TextChunkStream:
    """An encoder of the continuations' events as text_completion objects. `echoes` has the text to send before each
    continuation, `prompt_ids` the ids of each prompt, once they are known and if they are asked for, and `per_prompt`
    the number of continuations that each prompt has."""

    media_type = SSE
    heartbeat = SSE_COMMENT

    def __init__(
        self,
        base: dict[str, Any],
        body: CompletionRequest,
        echoes: Sequence[str],
        prompt_ids: Mapping[int, Sequence[int]],
        per_prompt: int,
    ) -> None:
        options = body.stream_options
        self._base = base | {"object": "text_completion"}
        self._body = body
        self._echoes = echoes
        self._include_usage = bool(options and options.include_usage)
        self._continuous = bool(options and options.include_usage and options.continuous_usage_stats)
        self._prompt_ids = prompt_ids
        self._per_prompt = per_prompt
        self._choices = [_Choice() for _ in echoes]

    def opening(self) -> str:
        """Encode the prompt for each continuation, if it is echoed."""
        return "".join([self._chunk(index, echo) for index, echo in enumerate(self._echoes) if echo])

    def encode(self, index: int, event: Event) -> str:
        """Encode an event; log-probabilities go with the text that follows them."""
        choice = self._choices[index]
        match event:
            case PromptLogprobs(tokens):
                choice.next += tokens
                return self._chunk(index, choice.echoed.decode(b"".join(token.bytes for token in tokens)), prompt=True)
            case Logprobs(tokens):
                choice.next += tokens
                choice.count += len(tokens)
            case Text(text):
                return self._chunk(index, text)
            case Finish(reason, usage, stop_token=stop_token):
                choice.count, choice.usage = usage.completion_tokens, usage
                choice.next += [stop_token] if stop_token else []
                return self._chunk(index, "", text_finish_reason(reason))
        return ""

    def ending(self) -> str:
        """Encode the usage, if it is included, and [DONE]."""
        usage = ""
        if self._include_usage:
            usages = [choice.usage for choice in self._choices]
            usage = sse(self._base | {"choices": [], "usage": sum_usage(usages, self._per_prompt).model_dump()})
        return f"{usage}data: [DONE]\n\n"

    def failure(self, error: ApiError) -> str:
        """Encode an error."""
        return sse(error.body())

    def _chunk(self, index: int, text: str, reason: str | None = None, *, prompt: bool = False) -> str:
        choice, body = self._choices[index], self._body
        tokens, choice.next = choice.next, []
        chunk: dict[str, Any] = {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
        if tokens and body.logprobs is not None:
            chunk["logprobs"] = logprobs_of(body, tokens, choice.sent, first=prompt and not choice.sent).model_dump()
        ids = self._prompt_ids.get(index // self._per_prompt, ())
        if body.return_token_ids:
            chunk["token_ids"] = [] if prompt else [token.id for token in tokens]
            if not choice.sent:
                chunk["prompt_token_ids"] = list(ids)
        choice.sent += len(text)
        found = self._base | {"choices": [chunk]}
        if self._continuous:
            usage = Usage(len(ids), choice.count)
            found["usage"] = UsageReply.of([usage]).model_dump()
        return sse(found)


def logprobs_of(body: CompletionRequest, tokens: Sequence[TokenLogprob], start: int, *, first: bool) -> TextLogprobs:
    """Return the log-probabilities that a request asks for. The `first` token of a prompt has none, unless special
    tokens precede it."""
    return TextLogprobs.of(
        tokens,
        start,
        top=body.logprobs or 0,
        as_ids=bool(body.return_tokens_as_token_ids),
        first=first and tokens[0].logprob == 0,
    )


def sum_usage(usages: Sequence[Usage], per_prompt: int) -> UsageReply:
    """Add up the usage of choices, of which each prompt has so many."""
    return UsageReply.of_prompts([usages[i : i + per_prompt] for i in range(0, len(usages), per_prompt)])


def text_finish_reason(reason: str) -> Literal["stop", "length"]:
    """Convert the runtime's finish reason."""
    return "length" if reason == "length" else "stop"
