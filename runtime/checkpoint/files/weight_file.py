"""The protocol of a file of weights, whatever its format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..tensor import Tensor


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor's place in its file: `begin` and `end` in bytes from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class WeightFile(Protocol):
    """An open file of tensors. Its methods raise CheckpointError."""

    @property
    def path(self) -> Path:
        """The file's path."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """The tensors' places by their names in the file."""
        ...

    def require_supported(self, entry: TensorEntry) -> None:
        """Raise CheckpointError if the tensor's type is not supported."""
        ...

    def require_contiguous(self) -> None:
        """Raise CheckpointError if any bytes belong to no tensor."""
        ...

    def tensor(self, entry: TensorEntry, name: str) -> "Tensor":
        """Return the tensor under the canonical `name`."""
        ...

    def release(self) -> None:
        """Return mapped pages to the system."""
        ...

    def require_unchanged(self) -> None:
        """Raise CheckpointError if an unmapped file has been written to since it was opened."""
        ...

    def sha256(self) -> str:
        """Return the hash of the whole file, in hexadecimal."""
        ...
