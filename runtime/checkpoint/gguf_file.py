"""One GGUF file: its metadata and where its tensors lie, checked to the last byte; quantised blocks decoded by rows.

The format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): "GGUF", a version, the numbers of tensors and of
metadata; each of those as key, type, value; each tensor's name, dimensions (fastest first), type, and offset; then,
aligned, the data.

The `gguf` package knows the types and decodes their blocks. We read the header ourselves: its reader takes 6 seconds
and 490 MB for GLM-4's vocabulary, since every string becomes a mapping of its own, and believes every length.
"""

import math
import struct
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError
from ..text import quoted
from .architecture import DOWNLOAD_AGAIN
from .mapped_file import BinaryFile, TensorEntry, open_binary
from .tensor import Array, Dtype, Tensor

_UNQUANTIZED: dict[str, tuple[Dtype, npt.DTypeLike]] = {  # types that need no decoding
    "BF16": ("bf16", np.uint16),
    "F16": ("f16", np.float16),
    "F32": ("f32", np.float32),
}
_SCALAR_TYPES = dict(enumerate("BbHhIif?", 0)) | {10: "Q", 11: "q", 12: "d"}  # types of metadata, as struct spells them
_STRING, _ARRAY = 8, 9
_MAX_ARRAY_DEPTH = 4  # arrays within arrays; nobody writes any
_DECODE_CHUNK = 1 << 22  # weights; the package takes about 8 bytes for each besides the result


@dataclass(frozen=True, slots=True)
class GgufFile(BinaryFile):
    """An open file. An entry's `dtype` is ggml's name of its type: F16, Q4_0, Q4_K and so on."""

    entries: dict[str, TensorEntry]
    metadata: dict[str, Any]
    start: int  # of the tensors' data
    alignment: int

    @classmethod
    def open(cls, path: Path, *, mapped: bool = True) -> "GgufFile":
        """Opens the file and reads its header. Raises CheckpointError for a file that is not what it claims to be."""
        if find_spec("gguf") is None:
            raise CheckpointError(
                "reading a GGUF needs gguf, which is not installed", hint='pip install "glm4-edge[gguf]"'
            )
        file = open_binary(path, smallest=24, mapped=mapped)
        if file.content[:4] != b"GGUF":
            raise CheckpointError(
                f"{path.name} is no GGUF file", hint="give a .gguf file, or the folder of a downloaded checkpoint"
            )
        header = _HeaderReader(file, at=4)
        if (version := header.number("I")) not in (2, 3):
            raise CheckpointError(
                f"{path.name} is a GGUF of version {version}, or big-endian; versions 2 and 3 are read",
                hint="convert the checkpoint again with today's llama.cpp",
            )
        tensors, pairs = header.number("Q"), header.number("Q")
        metadata = header.object(pairs)
        alignment = metadata.get("general.alignment", 32)
        start, entries = header.entries(tensors, alignment)
        return cls(path, file.size, file.content, entries, metadata, start, alignment)

    def require_contiguous(self) -> None:
        """Raises CheckpointError for bytes between or after the tensors that belong to none: the tensors behind them
        would be read from the wrong offset."""
        end = self.start
        for name, begin, after in [*((e.name, e.begin, e.end) for e in self.entries.values()), ("", self.size, 0)]:
            if begin - end >= self.alignment:
                where = f"before {quoted(name)}" if name else "after its last tensor"
                raise CheckpointError(
                    f"{self.path.name} is damaged: {begin - end:,} bytes {where} belong to no tensor",
                    hint=DOWNLOAD_AGAIN,
                )
            end = after

    def require_supported(self, entry: TensorEntry) -> None:
        """Raises CheckpointError where the tensor's type cannot be decoded."""
        if entry.dtype in _UNQUANTIZED:
            return
        _, nbytes = _block_size(entry.dtype)
        try:
            _dequantize(entry.dtype, np.zeros((1, nbytes), np.uint8))
        except NotImplementedError as exc:
            raise CheckpointError(
                f"{quoted(entry.name)} in {self.path.name} has the type {entry.dtype}, which gguf does not decode",
                hint="convert an F16, Q8_0 or K-quantised GGUF, or the original checkpoint",
            ) from exc

    def tensor(self, entry: TensorEntry, name: str) -> Tensor:
        """The tensor, under another name."""
        if entry.dtype in _UNQUANTIZED:
            dtype, view = _UNQUANTIZED[entry.dtype]
            return Tensor(name, entry.shape, dtype, self.array(view, entry.shape, entry.begin))
        weights, nbytes = _block_size(entry.dtype)
        rows = (*entry.shape[:-1], entry.shape[-1] // weights * nbytes)
        stored = self.array(np.uint8, rows, entry.begin)
        return Tensor(name, entry.shape, "f32", stored, partial(_dequantize, entry.dtype), entry.dtype)


def _block_size(kind: str) -> tuple[int, int]:
    """Weights of a block, and its bytes."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    weights, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return weights, nbytes


def _dequantize(kind: str, stored: Array) -> npt.NDArray[np.float32]:
    """(rows, bytes) -> (rows, weights), in memory bounded by the result's."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    weights, nbytes = _block_size(kind)
    found = np.empty((len(stored), stored.shape[1] // nbytes * weights), np.float32)
    step = max(1, _DECODE_CHUNK // found.shape[1])
    for first in range(0, len(stored), step):
        rows = slice(first, first + step)
        found[rows] = dequantize(stored[rows], GGMLQuantizationType[kind])
    return found


class _HeaderReader:
    """Reads the header front to back. No length in it is believed."""

    def __init__(self, file: BinaryFile, at: int) -> None:
        self._file = file
        self._position = at

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self._read(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        return self._read(self.number("Q")).decode("utf-8", "replace")

    def object(self, pairs: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(self._require_room(pairs, 13)):
            key = self.string()
            if key in found:
                raise self._damaged(f"the key {quoted(key)} occurs twice")
            found[key] = self._value(self.number("I"))
        return found

    def entries(self, count: int, alignment: Any) -> tuple[int, dict[str, TensorEntry]]:
        """Where the data begin, and the tensors in their order."""
        raw = [self._entry() for _ in range(self._require_room(count, 24))]
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"general.alignment is {alignment!r:.40}, not a power of two")
        start = self._position + -self._position % alignment
        found: dict[str, TensorEntry] = {}
        position = start
        for name, kind, shape, offset, nbytes in sorted(raw, key=lambda entry: entry[3]):
            entry = TensorEntry(name, kind, shape, start + offset, start + offset + nbytes)
            if entry.begin < position or offset % alignment or name in found:
                raise self._damaged(f"{quoted(name)} occurs twice, or overlaps another tensor")
            found[name], position = entry, entry.end
        if position > self._file.size:
            raise CheckpointError(
                f"{self._file.path.name} is truncated: it has {self._file.size:,} bytes, but its header promises "
                f"{position:,}",
                hint=DOWNLOAD_AGAIN,
            )
        return start, found

    def _entry(self) -> tuple[str, str, tuple[int, ...], int, int]:
        """Name, type, shape, offset among the data, bytes."""
        from gguf.constants import GGMLQuantizationType

        name = self.string()
        if (dimensions := self.number("I")) > 4:
            raise self._damaged(f"{quoted(name)} has {dimensions:,} dimensions")
        shape = tuple(reversed([self.number("Q") for _ in range(dimensions)]))
        number, offset = self.number("I"), self.number("Q")
        try:
            kind = GGMLQuantizationType(number).name
        except ValueError as exc:
            raise CheckpointError(
                f"{quoted(name)} in {self._file.path.name} has the type {number}, which gguf does not know",
                hint='pip install --upgrade "glm4-edge[gguf]", or convert the original checkpoint',
            ) from exc
        weights, nbytes = _block_size(kind)
        if not shape or shape[-1] % weights:
            raise self._damaged(f"{quoted(name)} has the shape {list(shape)}, no whole blocks of {kind}")
        return name, kind, shape, offset, math.prod(shape) // weights * nbytes

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALAR_TYPES:
            return self.number(_SCALAR_TYPES[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY or depth == _MAX_ARRAY_DEPTH:
            raise self._damaged(f"no metadata has the type {kind}")
        item, count = self.number("I"), self.number("Q")
        if item in _SCALAR_TYPES:
            size = struct.calcsize("<" + _SCALAR_TYPES[item])
            taken = self._read(self._require_room(count, size) * size)
            return list(struct.unpack(f"<{count}{_SCALAR_TYPES[item]}", taken))
        return [self._value(item, depth + 1) for _ in range(self._require_room(count, 8))]

    def _require_room(self, count: int, size: int) -> int:
        """A number of things of at least so many bytes, which must still be in the file."""
        if count * size > self._file.size - self._position:
            raise self._damaged(f"it claims {count:,} items where there is no room for them")
        return count

    def _read(self, size: int) -> bytes:
        if size > self._file.size - self._position:
            raise self._damaged("it is cut short, or a length in it is wrong")
        self._position += size
        return self._file.content[self._position - size : self._position]

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"the header of {self._file.path.name} is damaged: {what}", hint=DOWNLOAD_AGAIN)
