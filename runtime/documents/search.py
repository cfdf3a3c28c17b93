"""Search in passages: BM25, and where there is an embedding model, its vectors as well."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .formats import require_packages

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Embed = Callable[[Sequence[str]], "npt.NDArray[np.float32]"]
"""A function that returns the vector of each text, [texts, dimensions], of length 1."""
_FUSION = 60.0  # the constant of reciprocal rank fusion: Cormack et al., SIGIR 2009
_BEST = 50  # passages by each ranking that are fused


class PassageIndex:
    """An index of passages. With `embed`, passages are ranked by their words and their vectors (reciprocal rank
    fusion). Raises RequestError if bm25s is missing."""

    def __init__(self, texts: Sequence[str], embed: Embed | None = None) -> None:
        require_packages(("bm25s",), "searching documents")
        import bm25s

        self._words = bm25s.BM25()
        self._words.index([terms(text) or [""] for text in texts], show_progress=False)
        self._embed = embed
        self._vectors = None if embed is None else embed(texts)

    def search(self, query: str, limit: int) -> list[int]:
        """Return the indexes of the best passages, the best first. Without an embedding model, those that share no word
        with the query are left out."""
        scores = self._words.get_scores(terms(query) or [""])
        by_words = [i for i in sorted(range(len(scores)), key=lambda i: -scores[i]) if scores[i] > 0]
        if self._embed is None:
            return by_words[:limit]
        nearness = self._vectors @ self._embed([query])[0]
        by_vectors = sorted(range(len(scores)), key=lambda i: -nearness[i])
        fused: dict[int, float] = {}
        for ranking in (by_words[:_BEST], by_vectors[:_BEST]):
            for rank, index in enumerate(ranking, start=1):
                fused[index] = fused.get(index, 0.0) + 1 / (_FUSION + rank)
        return sorted(fused, key=lambda i: -fused[i])[:limit]


def terms(text: str) -> list[str]:
    """Split a text into lower-case words and, as Chinese has no blanks, pairs of adjacent Chinese characters."""
    found = re.findall(r"[^\W_\u3400-\u9fff]+", text.lower())
    for run in re.findall(r"[\u3400-\u9fff]+", text):
        found += [run[i : i + 2] for i in range(max(1, len(run) - 1))]
    return found
