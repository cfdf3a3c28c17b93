"""A GGUF file's tensors. Quantized blocks are decoded by the `gguf` package, some rows at a time."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from ...errors import CheckpointError
from ...text import quoted
from ..files.binary_file import BinaryFile, open_binary
from ..files.small_files import DOWNLOAD_AGAIN
from ..files.unmapped_file import require_unchanged
from ..files.weight_file import TensorEntry
from ..tensor import Array, Dtype, Tensor
from .header import GgufHeader, block_size

_UNQUANTIZED: dict[str, tuple[Dtype, npt.DTypeLike]] = {  # types that need no decoding
    "BF16": ("bf16", np.uint16),
    "F16": ("f16", np.float16),
    "F32": ("f32", np.float32),
}
_DECODE_CHUNK = 1 << 22  # weights; the package takes about 8 bytes for each besides the result


@dataclass(frozen=True, slots=True)
class GgufFile(BinaryFile):
    """An open GGUF file with its parsed header."""

    header: GgufHeader

    @classmethod
    def open(cls, header: GgufHeader, *, mapped: bool = True) -> "GgufFile":
        """Open the file of a parsed header. Raises CheckpointError if it has changed since then, OSError."""
        file = open_binary(header.path, smallest=24, mapped=mapped)
        status = header.path.stat()
        require_unchanged(header.path.name, header.stat, (status.st_size, status.st_mtime_ns))
        return cls(header.path, header.size, file.content, header)

    @property
    def entries(self) -> dict[str, TensorEntry]:
        """The tensors' places, in the order of the file."""
        return self.header.entries

    def require_contiguous(self) -> None:
        """Raise CheckpointError if bytes between or after the tensors belong to none of them: the tensors after such a
        gap would be read from the wrong offset."""
        end = self.header.start
        for name, begin, after in [*((e.name, e.begin, e.end) for e in self.entries.values()), ("", self.size, 0)]:
            if begin - end >= self.header.alignment:
                where = f"before {quoted(name)}" if name else "after its last tensor"
                raise CheckpointError(
                    f"{self.path.name} is damaged: {begin - end:,} bytes {where} belong to no tensor",
                    hint=DOWNLOAD_AGAIN,
                )
            end = after

    def require_supported(self, entry: TensorEntry) -> None:
        """Raise CheckpointError if the tensor's type cannot be decoded."""
        if entry.dtype in _UNQUANTIZED:
            return
        _, nbytes = block_size(entry.dtype)
        try:
            _dequantize(entry.dtype, np.zeros((1, nbytes), np.uint8))
        except NotImplementedError as exc:
            raise CheckpointError(
                f"{quoted(entry.name)} in {self.path.name} has the type {entry.dtype}, which gguf does not decode",
                hint="convert an F16, Q8_0 or K-quantised GGUF, or the original checkpoint",
            ) from exc

    def tensor(self, entry: TensorEntry, name: str) -> Tensor:
        """Return the tensor under the canonical `name`."""
        if entry.dtype in _UNQUANTIZED:
            dtype, view = _UNQUANTIZED[entry.dtype]
            return Tensor(name, entry.shape, dtype, self.array(view, entry.shape, entry.begin))
        weights, nbytes = block_size(entry.dtype)
        rows = (*entry.shape[:-1], entry.shape[-1] // weights * nbytes)
        stored = self.array(np.uint8, rows, entry.begin)
        return Tensor(name, entry.shape, "f32", stored, partial(_dequantize, entry.dtype), entry.dtype)


def _dequantize(kind: str, stored: Array) -> npt.NDArray[np.float32]:
    """Decode blocks: [rows, bytes] -> [rows, weights]. The result is all the memory that it takes."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    weights, nbytes = block_size(kind)
    found = np.empty((len(stored), stored.shape[1] // nbytes * weights), np.float32)
    step = max(1, _DECODE_CHUNK // found.shape[1])
    for first in range(0, len(stored), step):
        rows = slice(first, first + step)
        found[rows] = dequantize(stored[rows], GGMLQuantizationType[kind])
    return found
