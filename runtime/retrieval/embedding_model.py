"""An embedding model: texts or token ids in, a vector for each out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ModelFolderError, RequestError
from ..folder.manifest import EmbeddingSettings
from ..folder.model_folder import ModelFolder
from .encoder_graph import EncoderGraph, load_error
from .text_tokens import TextTokens

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SENTENCE = "sentence_embedding"  # the output of a graph that pools the vectors of the tokens itself
TOKENS = ("last_hidden_state", "token_embeddings")  # the output of one that does not


class EmbeddingModel:
    """A loaded embedding model. It runs in this process: a batch does not block other threads of Python. Several
    threads may use it.

    `device` is the CPU or a GPU. Raises ModelFolderError for a folder that is no embedding model, BackendError if the
    engine cannot load it.
    """

    def __init__(self, folder: ModelFolder, *, device: str = "CPU") -> None:
        manifest = folder.manifest
        if manifest.embedding is None:
            raise ModelFolderError(
                f"{folder.path} is not an embedding model", hint="`edge adopt` makes one of an export"
            )
        self.settings: EmbeddingSettings = manifest.embedding
        try:
            self._tokens = TextTokens(folder.path, manifest.context_length)
        except RuntimeError as exc:
            raise load_error(device, folder.path, exc) from exc
        self._graph = EncoderGraph(folder.path, device)
        outputs = (SENTENCE,) if self.settings.pooling == "graph" else TOKENS
        self._output = next((name for name in outputs if self._graph.has_output(name)), "")
        if not self._output:
            raise ModelFolderError(f"the graph of {folder.path} has no output {outputs[0]}", hint="adopt it again")

    def encode(self, text: str | Sequence[int], *, truncate: bool = False, name: str = "the text") -> list[int]:
        """Return the token ids of a text, behind the model's prompt; check those that are given. Raises RequestError
        if the text is empty or too long; `name` is what it is called."""
        if isinstance(text, str):
            ids = self._tokens.encode(self.settings.prompt + text, truncate=truncate, name=name)
        else:
            ids = list(text)[: self._tokens.max_tokens] if truncate else list(text)
            self._tokens.require_length(len(ids), name)
        if not ids:
            raise RequestError(f"{name} is empty", hint="send text")
        size = self._graph.vocabulary_size
        if unknown := next((token for token in ids if token < 0 or (size is not None and token >= size)), None):
            raise RequestError(f"{name} has the token id {unknown}, which the model does not have", hint="send text")
        return ids

    def embed(self, batch: Sequence[Sequence[int]]) -> "npt.NDArray[np.float32]":
        """Return the vector of each text of a batch, [texts, dimensions]. Raises BackendError."""
        import numpy as np

        vectors, mask = self._graph.infer(batch, self._output)
        vectors = self._pool(vectors, mask.astype(np.float32))
        return normalize(vectors) if self.settings.normalize else vectors

    def _pool(self, vectors: "npt.NDArray[np.float32]", mask: "npt.NDArray[np.float32]") -> "npt.NDArray[np.float32]":
        """Pool [texts, tokens, dimensions] to [texts, dimensions]."""
        import numpy as np

        match self.settings.pooling:
            case "cls":
                return vectors[:, 0]
            case "last":
                return np.asarray(vectors[np.arange(len(vectors)), mask.sum(-1).astype(np.int64) - 1], np.float32)
            case "mean":
                summed = np.einsum("tsd,ts->td", vectors, mask)
                return np.asarray(summed / mask.sum(-1, keepdims=True), np.float32)
            case "graph":
                return vectors


def normalize(vectors: "npt.NDArray[np.float32]") -> "npt.NDArray[np.float32]":
    """Return the vectors with length 1."""
    import numpy as np

    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12), np.float32)
