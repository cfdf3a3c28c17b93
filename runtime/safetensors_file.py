"""One .safetensors file: its header, checked to the last byte, and its tensors as views of a memory mapping.

The format (https://github.com/huggingface/safetensors#format): eight bytes N, little endian; N bytes of JSON,
`{name: {"dtype", "shape", "data_offsets": [begin, end]}}`; then the data, without holes, to the end of the file.

We read it ourselves because safetensors' own numpy reader copies every tensor, cannot give back bf16 where `ml_dtypes`
is missing, and does not let go of the mapped pages.
"""

import json
import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .architecture import DOWNLOAD_AGAIN
from .errors import CheckpointError

_LARGEST_HEADER = 100_000_000  # bytes; the limit of the reference implementation
_ITEM_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
_HASHED_AT_ONCE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor's place in its file. `begin` and `end` count bytes from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """An open file. Views stay valid for as long as someone holds them, also after `release`."""

    path: Path
    size: int
    entries: dict[str, Entry]
    _mapping: mmap.mmap = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> "SafetensorsFile":
        """Maps the file and checks its header. Raises CheckpointError for a file that is not what it claims to be."""
        if not path.is_file():
            raise CheckpointError(f"{path.name} is missing", hint=f"download it into {path.parent}")
        size = path.stat().st_size
        if size < 8:
            raise CheckpointError(f"{path.name} has only {size} bytes", hint=DOWNLOAD_AGAIN)
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = struct.unpack("<Q", mapping[:8])
        if length > min(size - 8, _LARGEST_HEADER):
            raise CheckpointError(
                f"{path.name} claims a header of {length:,} bytes, but the file has {size:,}", hint=DOWNLOAD_AGAIN
            )
        entries = {e.name: e for e in _entries(path.name, mapping[8 : 8 + length], start=8 + length)}
        _check_layout(path.name, entries, start=8 + length, size=size)
        return cls(path, size, entries, mapping)

    def view(self, entry: Entry, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The tensor's bytes as an array of `dtype` in its own shape, read-only, nothing copied."""
        raw = np.frombuffer(self._mapping, dtype=dtype, count=math.prod(entry.shape), offset=entry.begin)
        return raw.reshape(entry.shape)

    def release(self) -> None:
        """Gives the mapped pages back to the system; the next reader of a view has them read from disk again."""
        if hasattr(mmap, "MADV_DONTNEED"):  # Windows has no madvise, and trims mapped pages by itself
            self._mapping.madvise(mmap.MADV_DONTNEED)

    def sha256(self) -> str:
        """The hash of the whole file, in hexadecimal."""
        digest = sha256()
        with memoryview(self._mapping) as content:
            for begin in range(0, self.size, _HASHED_AT_ONCE):
                digest.update(content[begin : begin + _HASHED_AT_ONCE])
                self.release()
        return digest.hexdigest()


def _entries(file: str, header: bytes, start: int) -> Iterator[Entry]:
    try:
        values = json.loads(header, object_pairs_hook=_object_without_duplicates)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise CheckpointError(f"the header of {file} is not readable JSON", hint=DOWNLOAD_AGAIN) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"the header of {file} is not a JSON object", hint=DOWNLOAD_AGAIN)
    for name, value in values.items():
        if name != "__metadata__":
            yield _entry(file, name, value, start)


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _entry(file: str, name: str, value: Any, start: int) -> Entry:
    match value:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end], **rest} if (
            not rest
            and len(shape) <= 8
            and all(type(number) is int and 0 <= number < 2**63 for number in (*shape, begin, end))
        ):
            entry = Entry(name, dtype, tuple(shape), start + begin, start + end)
        case _:
            raise CheckpointError(
                f"the header of {file} does not describe {name[:200]!r} properly", hint=DOWNLOAD_AGAIN
            )
    # A dtype that we do not know is not an error of the file: who wants to use the tensor judges it.
    if (bits := _ITEM_BITS.get(dtype)) and math.prod(shape) * bits != (end - begin) * 8:
        raise CheckpointError(
            f"{file} gives {name[:200]!r} {end - begin:,} bytes, not those of the shape {list(shape)[:8]} in {dtype}",
            hint=DOWNLOAD_AGAIN,
        )
    return entry


def _check_layout(file: str, entries: dict[str, Entry], start: int, size: int) -> None:
    """The tensors must follow one another without holes or overlaps and fill the file."""
    position = start
    for entry in sorted(entries.values(), key=lambda e: (e.begin, e.end)):
        if entry.begin != position or entry.end < entry.begin:
            raise CheckpointError(f"in {file}, {entry.name[:200]!r} overlaps or leaves a hole", hint=DOWNLOAD_AGAIN)
        position = entry.end
    if position > size:
        raise CheckpointError(
            f"{file} is truncated: it has {size:,} bytes, but its header promises {position:,}", hint=DOWNLOAD_AGAIN
        )
    if position < size:
        raise CheckpointError(f"{file} has {size - position:,} bytes that no tensor owns", hint=DOWNLOAD_AGAIN)
