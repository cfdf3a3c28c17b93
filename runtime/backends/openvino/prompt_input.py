"""What GenAI's pipeline reads of a prompt: its token ids, or, from a vision model, its embeddings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class PromptInput(Protocol):
    """A prompt in the pipeline's form."""

    def tensor(self, end: int | None = None) -> Any:
        """Return the first `end` tokens, or all."""
        ...


class TokenIds:
    """Token ids, i64 of shape [1, tokens]."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = ids

    def tensor(self, end: int | None = None) -> Any:
        import numpy as np
        import openvino

        return openvino.Tensor(np.array([self._ids[:end]], dtype=np.int64))


class Embeddings:
    """Embeddings, f32 of shape [1, tokens, shifts + width]."""

    def __init__(self, rows: "npt.NDArray[np.float32]") -> None:
        self._rows = rows

    def tensor(self, end: int | None = None) -> Any:
        import openvino

        return openvino.Tensor(self._rows[None, :end], shared_memory=True)  # the pipeline copies them
