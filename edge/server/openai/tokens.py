"""Tokens in OpenAI's responses: their counts and their log-probabilities."""

import math
from collections.abc import Sequence
from typing import Any

from runtime.events import TokenLogprob, Usage

from ..generation.fields import RequestModel
from ..pool.event_stream import sse


class PromptTokens(RequestModel):
    """How many of a prompt's tokens were computed for an earlier prompt; 0 where the engine does not report it."""

    cached_tokens: int = 0


class UsageReply(RequestModel):
    """The token counts of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens = PromptTokens()

    @classmethod
    def of_prompts(cls, usages: Sequence[Sequence[Usage]]) -> "UsageReply":
        """Add up the replies of several prompts, grouped by their prompt."""
        found = [cls.of(replies) for replies in usages]
        prompt, completion = sum(usage.prompt_tokens for usage in found), sum(u.completion_tokens for u in found)
        return cls._of(prompt, completion, sum(usage.prompt_tokens_details.cached_tokens for usage in found))

    @classmethod
    def of(cls, usages: Sequence[Usage]) -> "UsageReply":
        """Add up the replies of one prompt, which counts once."""
        prompt = max((usage.prompt_tokens for usage in usages), default=0)
        completion = sum(usage.completion_tokens for usage in usages)
        return cls._of(prompt, completion, min((usage.cached_tokens for usage in usages), default=0))

    @classmethod
    def _of(cls, prompt: int, completion: int, cached: int) -> "UsageReply":
        details, total = PromptTokens(cached_tokens=cached), prompt + completion
        return cls(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=total, prompt_tokens_details=details
        )


class TopToken(RequestModel):
    """A token's log-probability. `bytes` are those of `token`, which is U+FFFD if the token is part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class TokenReply(TopToken):
    """A token of the reply, and the most probable ones in its place."""

    top_logprobs: Sequence[TopToken] = ()

    @classmethod
    def of(cls, tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
        """Convert tokens to JSON objects."""
        return [_token(token) | {"top_logprobs": [_token(other) for other in token.top]} for token in tokens]


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.text, "logprob": finite_logprob(token.logprob), "bytes": list(token.bytes)}


def finite_logprob(logprob: float) -> float:
    """Return the log-probability, or OpenAI's -9999.0 for minus infinity, which JSON does not have."""
    return logprob if math.isfinite(logprob) else -9999.0


def stream_ending(base: dict[str, Any], usages: Sequence[Usage] | None) -> str:
    """Encode the end of a stream: the usage of all its replies, unless `usages` is None, and [DONE]."""
    usage = "" if usages is None else sse(base | {"choices": [], "usage": UsageReply.of(usages).model_dump()})
    return f"{usage}data: [DONE]\n\n"
