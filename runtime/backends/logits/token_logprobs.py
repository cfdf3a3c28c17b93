"""Log-probabilities of tokens, computed from the logits of the positions before them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...events import TokenLogprob
from ...vocabulary import Vocabulary

Logits = npt.NDArray[np.float32]


def token_logprob(logits: Logits, id: int, vocabulary: Vocabulary, top: int = 0) -> TokenLogprob:
    """Return the log-probability of token `id` under logits of shape [vocabulary], with those of the `top` most
    probable tokens."""
    peak = float(logits.max())
    norm = peak + float(np.log(np.exp(logits - np.float32(peak)).sum(dtype=np.float64)))

    def found(token: int, alternatives: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        return TokenLogprob(vocabulary.bytes_of(token), float(logits[token]) - norm, token, alternatives)

    return found(id, tuple(map(found, most_probable(logits, top))) if top else ())


def most_probable(logits: Logits, count: int) -> list[int]:
    """Return the ids of the `count` largest logits, the largest first."""
    ids: npt.NDArray[Any] = np.argpartition(logits, -count)[-count:]
    ordered: list[int] = ids[np.lexsort((ids, -logits[ids]))].tolist()
    return ordered


class PromptScorer:
    """The log-probabilities of a prompt's tokens, from the logits of its chunks."""

    def __init__(self, vocabulary: Vocabulary, top: int) -> None:
        self._vocabulary = vocabulary
        self._top = top
        self._before: Logits | None = None  # the logits from which the next chunk's first token is predicted

    def feed(self, ids: Sequence[int], logits: Logits) -> tuple[TokenLogprob, ...]:
        """Return the tokens of a chunk, with logits of shape [tokens, vocabulary]."""
        rows = [self._before, *logits[:-1]]
        self._before = logits[-1].copy()
        return tuple(
            TokenLogprob(self._vocabulary.bytes_of(id), 0.0, id)
            if row is None
            else token_logprob(row, id, self._vocabulary, self._top)
            for id, row in zip(ids, rows, strict=True)
        )
