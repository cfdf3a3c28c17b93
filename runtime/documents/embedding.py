"""The vectors of passages, by an embedding model."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..folder.model_folder import ModelFolder
from ..retrieval.embedding_model import EmbeddingModel, normalize

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BATCH = 16  # texts


class PassageEmbedding:
    """The vectors of texts by the embedding model of a folder, which is loaded now. Raises ModelFolderError for a
    folder that is no embedding model."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._model = EmbeddingModel(ModelFolder.open(folder))

    def __call__(self, texts: Sequence[str]) -> "npt.NDArray[np.float32]":
        """Return the vector of each text, of length 1. What a text has beyond the model's context is not read."""
        import numpy as np

        ids = [self._model.encode(text.strip() or ".", truncate=True) for text in texts]
        batches = (ids[i : i + _BATCH] for i in range(0, len(ids), _BATCH))
        return normalize(np.concatenate([self._model.embed(batch) for batch in batches]))
