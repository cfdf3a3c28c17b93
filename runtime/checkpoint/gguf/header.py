"""The header of a GGUF file: its metadata and its tensors' places, validated to the last byte.

The format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): "GGUF", a version, the numbers of tensors and of
metadata; each of those as key, type, value; each tensor's name, dimensions (fastest first), type, and offset; then,
aligned, the data.

We parse it ourselves: the `gguf` package's reader takes 6 seconds and 490 MB for GLM-4's vocabulary, since every string
becomes a mapping of its own, and it trusts every length.
"""

import math
import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CheckpointError
from ...system.installation import install_hint
from ...text import quoted
from ..files.small_files import DOWNLOAD_AGAIN
from ..files.weight_file import TensorEntry

if TYPE_CHECKING:
    from ..files.binary_file import BinaryFile

_SCALAR_TYPES = dict(enumerate("BbHhIif?", 0)) | {10: "Q", 11: "q", 12: "d"}  # types of metadata, in struct's notation
_STRING, _ARRAY = 8, 9
_OTHER_TYPES = {  # ggml's types that it has removed, and newer ones, which an older `gguf` lacks
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
    39: "MXFP4",
    40: "NVFP4",
}
_MAX_ARRAY_DEPTH = 4  # real files do not nest arrays


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A parsed header. An entry's `dtype` is ggml's name of its type: F16, Q4_0, Q4_K and so on.

    `start` is the offset of the tensors' data, `stat` the file's size and time of change when it was read.
    """

    path: Path
    size: int
    stat: tuple[int, int]
    entries: dict[str, TensorEntry]
    metadata: dict[str, Any]
    start: int
    alignment: int

    @classmethod
    def read(cls, path: Path) -> "GgufHeader":
        """Read a file's header. Raises CheckpointError if the file is not what it claims to be, OSError."""
        from ..files.binary_file import open_binary

        if find_spec("gguf") is None:
            raise CheckpointError("reading a GGUF needs gguf, which is not installed", hint=install_hint("gguf"))
        file = open_binary(path, smallest=24, mapped=False)
        status = path.stat()
        if file.content[:4] != b"GGUF":
            raise CheckpointError(
                f"{path.name} is not a GGUF file", hint="pass a .gguf file, or the folder of a downloaded checkpoint"
            )
        header = _HeaderReader(file, position=4)
        if (version := header.number("I")) not in (2, 3):
            raise CheckpointError(
                f"{path.name} is a GGUF of version {version}, or big-endian; versions 2 and 3 are supported",
                hint="convert the checkpoint again with today's llama.cpp",
            )
        tensors, pairs = header.number("Q"), header.number("Q")
        metadata = header.object(pairs)
        alignment = metadata.get("general.alignment", 32)
        start, entries = header.entries(tensors, alignment)
        return cls(path, file.size, (status.st_size, status.st_mtime_ns), entries, metadata, start, alignment)


def block_size(kind: str) -> tuple[int, int]:
    """Return the number of weights in a block of ggml's type `kind`, and the block's bytes."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    weights, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return weights, nbytes


class _HeaderReader:
    """Reads the header front to back. Every count and length is checked against the bytes that are left."""

    def __init__(self, file: "BinaryFile", position: int) -> None:
        self._file = file
        self._position = position

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
        """Return the offset of the data, and the tensors in their order."""
        raw = [self._entry() for _ in range(self._require_room(count, 24))]
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"general.alignment is {alignment!r:.40}, which is not a power of two")
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
        """Return name, type, shape, offset within the data, and bytes."""
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
                f"{quoted(name)} in {self._file.path.name} has the type {_OTHER_TYPES.get(number, number)}, which gguf "
                "does not support",
                hint="upgrade the package gguf, or convert an F16, Q8_0 or K-quantised GGUF",
            ) from exc
        weights, nbytes = block_size(kind)
        if not shape or shape[-1] % weights:
            raise self._damaged(f"{quoted(name)} has the shape {list(shape)}, not whole {kind} blocks")
        return name, kind, shape, offset, math.prod(shape) // weights * nbytes

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALAR_TYPES:
            return self.number(_SCALAR_TYPES[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY or depth == _MAX_ARRAY_DEPTH:
            raise self._damaged(f"its metadata have the unknown type {kind}")
        item, count = self.number("I"), self.number("Q")
        if item in _SCALAR_TYPES:
            size = struct.calcsize("<" + _SCALAR_TYPES[item])
            taken = self._read(self._require_room(count, size) * size)
            return list(struct.unpack(f"<{count}{_SCALAR_TYPES[item]}", taken))
        return [self._value(item, depth + 1) for _ in range(self._require_room(count, 8))]

    def _require_room(self, count: int, size: int) -> int:
        """Return `count` if that many items of at least `size` bytes can still be in the file."""
        if count * size > self._file.size - self._position:
            raise self._damaged(f"it claims {count:,} items, more than the file can contain")
        return count

    def _read(self, size: int) -> bytes:
        if size > self._file.size - self._position:
            raise self._damaged("it is cut short, or a length in it is wrong")
        self._position += size
        return self._file.content[self._position - size : self._position]

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f"the header of {self._file.path.name} is damaged: {what}", hint=DOWNLOAD_AGAIN)
