"""A request inside GenAI's continuous-batching pipeline, and the slices that prefill its prompt."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from ....errors import BackendError
from ....events import Finish, TokenLogprob, Usage
from ....vocabulary import TextDecoder
from ...backend import Delta, Request
from ..prompt_input import PromptInput
from .prompt_lookup import DraftLength


@dataclass(slots=True, eq=False)
class ActiveRequest:
    """A request, with the ids of its prompt (and of the reply so far, which it continues) and of its reply; `prompt` is
    what the pipeline reads.

    It is `finished` once its Finish was read; `start` and `ttft` are seconds. It has a `handle` once it is in the
    pipeline; before that, slices bring the first `cached_tokens` ids into the prefix cache. With `starts_in_block`,
    part of the next block may be cached, too. `reused_tokens` were in the cache when the request came. What its steps
    bring is recorded in `drafts`.
    """

    request: Request
    ids: list[int]
    prompt: PromptInput
    config: Any
    decoder: TextDecoder
    stops: set[int]
    special: frozenset[int]
    start: float
    on_end: Callable[["ActiveRequest"], None]
    drafts: DraftLength
    handle: Any = None
    cached_tokens: int = 0
    reused_tokens: int = 0
    starts_in_block: bool = False
    generated_ids: list[int] = field(default_factory=list)
    ttft: float = 0.0
    finished: bool = False
    error: Exception | None = None

    @property
    def ready(self) -> bool:
        """Whether the first token has been generated."""
        return bool(self.generated_ids) or (self.handle is not None and self.handle.can_read())

    def can_read(self) -> bool:
        """Whether a step has produced tokens. Raises BackendError if the KV cache has no room for the request."""
        from openvino_genai import GenerationStatus

        if self.error is not None:
            raise self.error
        if self.handle is None:
            return False
        if self.handle.can_read():
            return True
        if self.handle.get_status() == GenerationStatus.IGNORED:
            raise cache_full()
        return False

    def read(self) -> list[Delta | Finish]:
        """Return what the last step has produced."""
        from openvino_genai import GenerationFinishReason

        (output,) = self.handle.read().values()
        self.ttft = self.ttft or time.perf_counter() - self.start
        ended = output.finish_reason != GenerationFinishReason.NONE
        if self.generated_ids and not ended:  # the first step drafts nothing, the last one may be cut
            self.drafts.record(
                self.config.num_assistant_tokens,
                len(output.generated_ids),
                constrained=self.request.grammar is not None,
            )
        self.generated_ids += output.generated_ids
        self.finished = ended
        if ended:
            self.on_end(self)
        deltas: list[Delta | Finish]
        if self.request.sampling.logprobs or self.request.grammar is not None:
            logprobs = output.generated_log_probs if self.request.sampling.logprobs else repeat(None)
            deltas = [self._delta(id, logprob) for id, logprob in zip(output.generated_ids, logprobs, strict=False)]
            if rest := self.decoder.finish() if ended else "":
                deltas.append(Delta(rest, 0, ids=self.decoder.take_ids()))
        else:
            text = self.decoder.feed(i for i in output.generated_ids if i not in self.stops)
            text += self.decoder.finish() if ended else ""
            deltas = [Delta(text, len(output.generated_ids), ids=self.decoder.take_ids())]
        if ended:
            limit_reached = output.finish_reason == GenerationFinishReason.LENGTH
            stop = None
            if self.request.sampling.logprobs and output.generated_ids and output.generated_ids[-1] in self.stops:
                stop = self._logprob(output.generated_ids[-1], output.generated_log_probs[-1])
            deltas.append(Finish("length" if limit_reached else "stop", self._usage(), stop_token=stop))
        return deltas

    def cancelled_finish(self) -> Finish:
        """Return the Finish of a cancelled request."""
        return Finish("cancelled", self._usage())

    def _delta(self, id: int, logprob: float | None) -> Delta:
        if id in self.stops:
            return Delta("")
        known = None if logprob is None else self._logprob(id, logprob)
        text, ids = self.decoder.feed([id]), self.decoder.take_ids()
        if self.request.grammar is not None and id in self.special:
            ids = ()  # the engine's mask takes it for its text
        return Delta(text, 1, known, ids)

    def _logprob(self, id: int, logprob: float) -> TokenLogprob:
        return TokenLogprob(self.decoder.bytes_of(id), logprob, id)

    def _usage(self) -> Usage:
        prompt_tokens = len(self.ids) - len(self.request.generated)
        seconds, reused = time.perf_counter() - self.start, min(self.reused_tokens, prompt_tokens)
        return Usage(prompt_tokens, len(self.generated_ids), self.ttft, seconds, reused)


@dataclass(slots=True, eq=False)
class PromptSlice:
    """The beginning of a prompt, up to its id `end`, as a request of its own."""

    running: ActiveRequest
    end: int
    handle: Any

    @property
    def failed(self) -> bool:
        from openvino_genai import GenerationStatus

        return bool(self.handle.get_status() == GenerationStatus.IGNORED)

    @property
    def ended(self) -> bool:
        return self.handle.can_read() or self.failed


def cache_full() -> BackendError:
    """Return the error of a request for which the KV cache cannot grow."""
    return BackendError("the KV cache does not fit into memory", hint="shorten the chat, or choose a smaller recipe")
