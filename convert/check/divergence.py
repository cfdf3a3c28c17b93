"""The divergence of one model's logits from another's: Kullback-Leibler, top-1 agreement, perplexity.

The logits of a long text are never in memory as a whole: with GLM-4's vocabulary, 32,768 tokens have 20 GB of them.
Hidden states are kept instead; their logits are computed for some positions at a time and reduced to a few numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.errors import VerificationError

from .reference import POSITIONS, Floats, Head

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Upper limits of the context lengths that are reported: 0 to 127 tokens before a token, 128 to 511, …
CONTEXTS = (128, 512, 2048, 8192, 32768, 131072, 1048576)
_LOGITS_PER_BLOCK = 2**22  # reduced at a time: 16 MB, a few times over


@dataclass(frozen=True, slots=True)
class LogitSource:
    """A model's hidden states for texts, (T,hidden) each, and its head."""

    states: Sequence[Floats]
    head: Head

    def select(self, numbers: Sequence[int]) -> "LogitSource":
        """Return the states of the texts with these numbers."""
        return LogitSource([self.states[number] for number in numbers], self.head)


@dataclass(frozen=True, slots=True)
class DivergenceFigures:
    """Figures over `tokens` tokens: mean, 99th percentile and maximum of the divergence, in nats a token; `top1`, the
    share of tokens with the same most likely successor; and each model's perplexity.

    None where there is no reference, or no next token.
    """

    tokens: int
    mean_kl: float | None
    p99_kl: float | None
    max_kl: float | None
    top1: float | None
    perplexity: float | None
    reference_perplexity: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Per-token comparison over N tokens, texts concatenated.

    `text_index` is the number of the text, `context` the number of tokens before the token, `divergence` in nats,
    `same_top1` whether both models have the same most likely successor; `log_probability` and
    `reference_log_probability` are those of the next token. NaN where there is no reference, or no next token.
    """

    text_index: npt.NDArray[np.int64]
    context: npt.NDArray[np.int64]
    divergence: Doubles
    same_top1: Mask
    log_probability: Doubles
    reference_log_probability: Doubles

    def figures(self, where: Mask | None = None) -> DivergenceFigures:
        """Return the figures over all tokens, or over those selected by `where`."""
        where = np.ones(len(self.text_index), np.bool_) if where is None else where
        divergence, followed = self.divergence[where], where & ~np.isnan(self.log_probability)
        compared = len(divergence) > 0 and not np.isnan(divergence).any()
        return DivergenceFigures(
            tokens=int(where.sum()),
            mean_kl=float(divergence.mean()) if compared else None,
            p99_kl=float(np.quantile(divergence, 0.99)) if compared else None,
            max_kl=float(divergence.max()) if compared else None,
            top1=float(self.same_top1[where].mean()) if compared else None,
            perplexity=_perplexity(self.log_probability[followed]),
            reference_perplexity=_perplexity(self.reference_log_probability[followed]),
        )

    def by_context(self) -> dict[int, DivergenceFigures]:
        """Return the figures by upper limit of the context length, where there are tokens."""
        found, low = {}, 0
        for high in CONTEXTS:
            where = (self.context >= low) & (self.context < high)
            if where.any():
                found[high] = self.figures(where)
            low = high
        return found


def compare_logits(
    token_ids: Sequence[npt.NDArray[Any]], model: LogitSource, reference: LogitSource | None = None
) -> Comparison:
    """Compare a model with a reference, if there is one. Raise VerificationError where either's logits are NaN."""
    parts = [_compare_text(number, ids, model, reference) for number, ids in enumerate(token_ids)]
    return Comparison(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _compare_text(
    number: int, ids: npt.NDArray[Any], model: LogitSource, reference: LogitSource | None
) -> tuple[Any, ...]:
    """Return a text's columns of the Comparison."""
    tokens = len(ids)
    divergence, model_next, reference_next = (np.full(tokens, np.nan) for _ in range(3))
    same_top1 = np.zeros(tokens, np.bool_)
    for first in range(0, tokens, POSITIONS):
        rows = slice(first, min(first + POSITIONS, tokens))
        model_logits = model.head(model.states[number][rows])
        reference_logits = reference.head(reference.states[number][rows]) if reference else None
        step = max(1, _LOGITS_PER_BLOCK // model_logits.shape[1])
        for i in range(0, len(model_logits), step):
            block = slice(first + i, min(first + i + step, rows.stop))
            next_ids = ids[block.start + 1 : block.stop + 1]
            with_next = slice(block.start, block.start + len(next_ids))
            q = _finite(log_softmax(model_logits[i : i + step]), "the converted model")
            model_next[with_next] = q[np.arange(len(next_ids)), next_ids]
            if reference_logits is not None:
                p = _finite(log_softmax(reference_logits[i : i + step]), "the reference")
                reference_next[with_next] = p[np.arange(len(next_ids)), next_ids]
                divergence[block] = kl_divergence(p, q)
                same_top1[block] = p.argmax(-1) == q.argmax(-1)
    return np.full(tokens, number), np.arange(tokens), divergence, same_top1, model_next, reference_next


def greedy_tokens(states: Floats, head: Head) -> npt.NDArray[np.int64]:
    """Return the most likely token after each state: (n,hidden) -> (n)."""
    blocks = [head(states[i : i + POSITIONS]).argmax(-1) for i in range(0, len(states), POSITIONS)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int64)


def kl_divergence(p: Floats, q: Floats) -> Doubles:
    """Return KL(p || q) in nats, of log-probabilities (n,vocab): (n)."""
    # Rounding alone can make it negative.
    found: Doubles = np.maximum((np.exp(p) * (p - q)).sum(-1, dtype=np.float64), 0.0)
    return found


def log_softmax(logits: Floats) -> Floats:
    """Return logits as log-probabilities: (n,vocab)."""
    shifted = logits - logits.max(-1, keepdims=True)
    normed: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normed


def _finite(log_probabilities: Floats, whose: str) -> Floats:
    if not np.isfinite(log_probabilities).all():
        raise VerificationError(
            f"the logits of {whose} are NaN", hint="its weights are damaged: convert or download it again"
        )
    return log_probabilities


def _perplexity(log_probabilities: Doubles) -> float | None:
    if not len(log_probabilities) or np.isnan(log_probabilities).any():
        return None
    return float(np.exp(-log_probabilities.mean()))
