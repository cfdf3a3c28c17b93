"""A request whose tokens are sampled here, from the logits of a LogitsModel, in place of GenAI's sampler.

It has the settings that GenAI lacks or gets wrong: `frequency_penalty`, which GenAI adds to negative logits,
`logit_bias`, `top_logprobs` and `prompt_logprobs`.
"""

import time
from typing import Any

from ....errors import UnsupportedSetting
from ....events import Finish, FinishReason, Usage
from ....sampling import SamplingParams
from ....vocabulary import Vocabulary
from ...backend import Delta, Request

SETTINGS = ("frequency_penalty", "logit_bias", "top_logprobs", "prompt_logprobs")
_SCORED = 32  # tokens of a prompt whose logits are in memory at once: 20 MB with GLM-4's vocabulary


def needed_settings(sampling: SamplingParams) -> list[str]:
    """Return the settings for which logits are needed."""
    return [name for name in SETTINGS if getattr(sampling, name)]


def require_no_logits(sampling: SamplingParams, beside: str) -> None:
    """Raise UnsupportedSetting if logits are needed. `beside` is what excludes them, such as "a grammar"."""
    for name in needed_settings(sampling):
        raise UnsupportedSetting(
            f"{name} is not supported beside {beside} on OpenVINO",
            hint=f"leave out {name}, or the {beside.removeprefix('a ')}",
            setting=name,
        )


class LogitsRequest:
    """A request, with the ids of its prompt (and of the reply so far, which it continues) and of its reply. `room` is
    the most tokens that the reply may have. `error` is raised to whoever reads it."""

    def __init__(
        self, request: Request, ids: list[int], stops: set[int], room: int, *, vocabulary: Vocabulary, start: float
    ) -> None:
        from ...logits.token_logprobs import PromptScorer
        from ...logits.token_sampler import TokenSampler

        sampling = request.sampling
        self.request = request
        self.generated_ids: list[int] = []
        self.finished = False
        self.error: Exception | None = None
        self.context: Any = None  # the LogitsContext, once the request has one
        self._ids = ids
        self._stops = stops
        self._limit = room if sampling.max_new_tokens is None else min(sampling.max_new_tokens, room)
        self._vocabulary = vocabulary
        self._decoder = vocabulary.decoder()
        self._start, self._ttft = start, 0.0
        self._parts: list[Delta | Finish] = []
        self._scorer = PromptScorer(vocabulary, sampling.top_logprobs) if sampling.prompt_logprobs else None
        replied = len(request.generated)
        self._sampler = TokenSampler(sampling, ids[: len(ids) - replied])
        for token in request.generated:
            self._sampler.add(token)

    @property
    def ready(self) -> bool:
        """Whether the first token has been generated."""
        return bool(self.generated_ids)

    def can_read(self) -> bool:
        """Whether a step has produced something. Raises the request's error."""
        if self.error is not None:
            raise self.error
        return bool(self._parts)

    def read(self) -> list[Delta | Finish]:
        """Return what the last steps have produced."""
        parts, self._parts = self._parts, []
        self.finished = any(isinstance(part, Finish) for part in parts)
        return parts

    @property
    def ended(self) -> bool:
        """Whether its Finish waits to be read."""
        return bool(self._parts) and isinstance(self._parts[-1], Finish)

    def step(self, tokens: int) -> None:
        """Read at most `tokens` more of the prompt, or generate a token. Raises OpenVINO's RuntimeError."""
        known = self._ids + self.generated_ids
        if self._scorer is not None:
            tokens = min(tokens, _SCORED)
        chunk = known[self.context.length : self.context.length + tokens]
        logits = self.context.forward(chunk)
        if self._scorer is not None:
            self._parts.append(Delta("", 0, prompt=self._scorer.feed(chunk, logits)))
        if self.context.length == len(known):
            self._scorer = None
            if self._limit:
                self._generate(logits[-1])
            else:
                self._parts.append(Finish("length", self._usage()))

    def cancelled_finish(self) -> Finish:
        """Return the Finish of a cancelled request."""
        return Finish("cancelled", self._usage())

    def _generate(self, logits: Any) -> None:
        from ...logits.token_logprobs import token_logprob

        sampling = self.request.sampling
        token = self._sampler.choose(logits)
        self._sampler.add(token)
        self.generated_ids.append(token)
        self._ttft = self._ttft or time.perf_counter() - self._start
        reason: FinishReason | None = None
        known = token_logprob(logits, token, self._vocabulary, sampling.top_logprobs) if sampling.logprobs else None
        stop_token = None
        if token in self._stops:
            reason, stop_token = "stop", known
            self._parts.append(Delta(""))
        else:
            self._parts.append(Delta(self._decoder.feed([token]), 1, known, self._decoder.take_ids()))
        if reason is None and len(self.generated_ids) == self._limit:
            reason = "length"
        if reason is not None:
            if rest := self._decoder.finish():
                self._parts.append(Delta(rest, 0, ids=self._decoder.take_ids()))
            self._parts.append(Finish(reason, self._usage(), stop_token=stop_token))

    def _usage(self) -> Usage:
        prompt_tokens = len(self._ids) - len(self.request.generated)
        return Usage(prompt_tokens, len(self.generated_ids), self._ttft, time.perf_counter() - self._start)
