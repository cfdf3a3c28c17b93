"""The reply as far as it has been generated: its text, its token ids, and the requests that continue it.

An engine that reports ids continues a reply from the very ids that it has generated, so its prefix cache has them all.
Where text was dropped inside a token, or put in by us, only that piece of text is tokenized.
"""

import time
from dataclasses import replace

from ..backends.backend import Backend, Delta, Request
from ..events import Finish, FinishReason, TokenLogprob, Usage
from ..grammar.grammar import Grammar
from ..grammar.rest import Rest
from .logprob_aligner import LogprobAligner


class PartialReply:
    """The text that has been generated so far, and its tokens."""

    def __init__(self, backend: Backend, request: Request) -> None:
        self.tokens = LogprobAligner()
        self.requests = 0
        self.stop_token: TokenLogprob | None = None  # the one that ended the last request, if it was logged
        self._backend = backend
        self._request = request
        self._pieces: list[str] = []  # joined when needed: appending each to the whole would cost its square
        self._length = self._segment_start = 0  # characters
        self._ids: list[int] = []
        self._marks = [(0, 0)]  # numbers of characters and of ids that are the same text, in ascending order
        self._prompt_tokens, self._cached_tokens, self._new_tokens, self._ttft = 0, 0, 0, 0.0
        self._incomplete = 0  # tokens of a character that is not complete yet
        self._start = time.perf_counter()

    def is_full(self, ahead: int = 0) -> bool:
        """Whether the token limit leaves no room for a token, or for so many that are `ahead`."""
        left = self._tokens_left
        if self._request.sampling.prompt_logprobs and not self.requests:
            return False  # the prompt is read even if no token is to follow
        return left is not None and left < max(ahead, 1)

    @property
    def _text(self) -> str:
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    @property
    def _tokens_left(self) -> int | None:
        limit = self._request.sampling.max_new_tokens
        return None if limit is None else limit - self._new_tokens

    def begin_segment(self, prefilled: str) -> None:
        """Begin a segment with text that the engine did not generate. At the beginning of the reply it joins the
        prompt."""
        if self._length:
            self._pieces.append(prefilled)
            self._length += len(prefilled)
        elif prefilled:
            self._request = replace(self._request, prompt=(*self._request.prompt, prefilled))
        self._segment_start = self._length

    def segment_text(self) -> str:
        """Return what was generated in the segment."""
        return self._text[self._segment_start :]

    def request(self, grammar: Grammar | Rest | None) -> Request:
        """Return the request that continues the reply, with the tokens that are left. Each has a seed of its own."""
        seed = self._request.sampling.seed
        sampling = replace(
            self._request.sampling,
            max_new_tokens=self._tokens_left,
            prompt_logprobs=self._request.sampling.prompt_logprobs and not self.requests,
            seed=None if seed is None else (seed + self.requests) % 2**63,
        )
        self.requests += 1
        self.stop_token = None
        request = replace(self._request, grammar=grammar, sampling=sampling)
        if not self._length:
            return request
        if self._backend.reports_ids:
            return replace(request, generated=self._all_ids())
        return replace(request, prompt=(*request.prompt, self._text))

    def _all_ids(self) -> tuple[int, ...]:
        """Return ids of the whole text. What has none yet is tokenized."""
        characters, count = self._marks[-1]
        del self._ids[count:]
        if characters < self._length:
            self._ids += self._backend.encode((self._text[characters:],))
            self._marks.append((self._length, len(self._ids)))
        return tuple(self._ids)

    def add(self, delta: Delta) -> None:
        """Append what the engine has generated."""
        if delta.ids and self._marks[-1][0] < self._length:
            self._all_ids()  # of text that was put in before
        self._pieces.append(delta.text)
        self._length += len(delta.text)
        self.tokens.add(len(delta.text), delta.logprob)
        if delta.ids:
            self._ids += delta.ids
            self._marks.append((self._length, len(self._ids)))
        self._new_tokens += delta.tokens
        self._incomplete = 0 if delta.text else self._incomplete + delta.tokens
        if delta.tokens and not self._ttft:
            self._ttft = time.perf_counter() - self._start

    def rewind(self, length: int) -> None:
        """Drop the last `length` characters, and the tokens of one that is not complete."""
        self._length -= length
        self._new_tokens, self._incomplete = self._new_tokens - self._incomplete, 0
        self._pieces = [self._text[: self._length]]
        self.tokens.rewind(length)
        while self._marks[-1][0] > self._length:
            self._marks.pop()
        del self._ids[self._marks[-1][1] :]

    def end(self, finish: Finish) -> FinishReason:
        """Return why a request has ended. The first that does, and had no text of the reply in its prompt, tells how
        many tokens the prompt has."""
        if self.requests == 1 or self._backend.reports_ids:
            self._prompt_tokens = self._prompt_tokens or finish.usage.prompt_tokens
        if self.requests == 1:
            self._cached_tokens = finish.usage.cached_tokens
        self.stop_token = finish.stop_token
        return finish.reason

    def usage(self) -> Usage:
        """The reply's usage so far. A prompt that no engine has counted is counted now, unless it was cancelled."""
        prompt_tokens = self._prompt_tokens
        if not prompt_tokens and not self._request.cancellation.cancelled:
            prompt_tokens = len(self._request.prompt_ids) + self._backend.count_tokens(self._request.prompt)
        seconds = time.perf_counter() - self._start
        return Usage(prompt_tokens, self._new_tokens, self._ttft, seconds, self._cached_tokens)
