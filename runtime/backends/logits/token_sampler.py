"""Sampling of the next token from its logits.

The steps and their order are those of transformers' logits processors: bias and penalties, temperature, top_k, top_p,
min_p. https://github.com/huggingface/transformers/blob/main/src/transformers/generation/logits_process.py
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...sampling import SamplingParams
from .token_logprobs import Logits, most_probable


class TokenSampler:
    """The sampler of one reply to the prompt `ids`. The seed makes it reproducible."""

    def __init__(self, sampling: SamplingParams, ids: Sequence[int]) -> None:
        self._sampling = sampling
        self._seen = set(ids)
        self._generated: Counter[int] = Counter()
        self._draw = np.random.default_rng(sampling.seed)

    def add(self, token: int) -> None:
        """Count a generated token, which the penalties then apply to."""
        self._seen.add(token)
        self._generated[token] += 1

    def choose(self, logits: Logits) -> int:
        """Return the next token's id for logits of shape [vocabulary]."""
        sampling = self._sampling
        logits = self._penalize(logits)
        if sampling.greedy:
            return int(logits.argmax())
        logits = logits / np.float32(sampling.temperature)
        count = min(sampling.top_k, logits.size) or logits.size
        ids = np.array(most_probable(logits, count)) if count < logits.size else np.argsort(-logits, kind="stable")
        scaled = logits[ids].astype(np.float64)
        weights = np.exp(scaled - scaled[0])
        if sampling.top_p < 1:
            before = np.cumsum(weights / weights.sum()) - weights / weights.sum()
            weights = weights[before < sampling.top_p]
        if sampling.min_p:
            weights = weights[weights >= sampling.min_p]  # the first, the most probable token's, is 1
        return int(ids[self._draw.choice(len(weights), p=weights / weights.sum())])

    def _penalize(self, logits: Logits) -> Logits:
        sampling = self._sampling
        logits = logits.copy()
        for token, bias in sampling.logit_bias:
            logits[token] += bias
        if self._generated and (sampling.presence_penalty or sampling.frequency_penalty):
            ids, times = (np.array(values) for values in zip(*self._generated.items(), strict=True))
            logits[ids] -= (sampling.presence_penalty + sampling.frequency_penalty * times).astype(np.float32)
        if sampling.repetition_penalty != 1:
            ids = np.fromiter(self._seen, dtype=np.int64)
            found, penalty = logits[ids], np.float32(sampling.repetition_penalty)
            logits[ids] = np.where(found < 0, found * penalty, found / penalty)
        return logits
