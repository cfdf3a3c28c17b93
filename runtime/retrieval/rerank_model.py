"""A reranking model: a query and documents in, the score of each document out."""

from collections.abc import Sequence

from ..errors import ModelFolderError
from ..folder.model_folder import ModelFolder
from .encoder_graph import EncoderGraph, load_error
from .text_tokens import TextTokens

OUTPUT = "logits"


class RerankModel:
    """A loaded reranking model of BERT's or RoBERTa's kind. It runs in this process: a batch does not block other
    threads of Python. Several threads may use it.

    `device` is the CPU or a GPU. Raises ModelFolderError for a folder that is no reranking model, BackendError if the
    engine cannot load it.
    """

    def __init__(self, folder: ModelFolder, *, device: str = "CPU") -> None:
        if folder.manifest.task != "rerank":
            raise ModelFolderError(
                f"{folder.path} is not a reranking model", hint="`edge adopt` makes one of an export"
            )
        try:
            self._tokens = TextTokens(folder.path, folder.manifest.context_length)
        except RuntimeError as exc:
            raise load_error(device, folder.path, exc) from exc
        self._graph = EncoderGraph(folder.path, device)
        # RoBERTa has two separators between two texts; its tokenizers know no token types.
        self._two_separators = "roberta" in self._graph.model_type or self._graph.model_type == "camembert"

    def encode(self, query: str, document: str, *, name: str = "the document") -> tuple[list[int], int]:
        """Return the token ids of a query and a document together, and the number of the query's. Raises RequestError
        if the model reads fewer; `name` is what the document is called."""
        first = self._tokens.encode(query, name="the query")
        second = self._tokens.encode(document, name=name)
        separator = first[-1:] if self._two_separators else []
        ids = [*first, *separator, *second[1:]]
        self._tokens.require_length(len(ids), f"{name} with the query")
        return ids, len(first)

    def score(self, batch: Sequence[tuple[Sequence[int], int]]) -> list[float]:
        """Return how well each document of a batch answers its query, from 0 to 1. Raises BackendError."""
        import numpy as np

        logits, _ = self._graph.infer([ids for ids, _ in batch], OUTPUT, firsts=[first for _, first in batch])
        if logits.shape[-1] == 1:
            scores = 1 / (1 + np.exp(-logits[:, 0]))
        else:  # two classes, the second of which is that of an answer
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            scores = weights[:, 1] / weights.sum(-1)
        return [float(score) for score in scores]
