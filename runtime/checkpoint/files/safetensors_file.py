"""A .safetensors file: its header, validated to the last byte, and its tensors.

The format (https://github.com/huggingface/safetensors#format): eight bytes N, little endian; N bytes of JSON,
`{name: {"dtype", "shape", "data_offsets": [begin, end]}}`; then the data, without gaps, to the end of the file.

We parse it ourselves: safetensors' numpy reader copies every tensor, needs `ml_dtypes` for bf16, always maps the file,
and does not release mapped pages.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import strict_json
from ...errors import CheckpointError
from ...text import quoted
from ..tensor import Dtype, Tensor
from .binary_file import BinaryFile, open_binary
from .small_files import DOWNLOAD_AGAIN
from .weight_file import TensorEntry

_DTYPES: dict[str, tuple[Dtype, npt.DTypeLike]] = {  # numpy has no bf16: its bits are returned as uint16
    "BF16": ("bf16", np.uint16),
    "F16": ("f16", np.float16),
    "F32": ("f32", np.float32),
}
_MAX_HEADER_BYTES = 100_000_000  # bytes; the limit of the reference implementation
_ITEM_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
_ITEM_BITS |= {"F8_E4M3": 8, "F8_E5M2": 8}


@dataclass(frozen=True, slots=True)
class SafetensorsFile(BinaryFile):
    """An open file with its parsed header."""

    entries: dict[str, TensorEntry]

    @classmethod
    def open(cls, path: Path, *, mapped: bool = True) -> "SafetensorsFile":
        """Open a file and validate its header. Raises CheckpointError if the file is not what it claims to be,
        OSError."""
        file = open_binary(path, smallest=8, mapped=mapped)
        (length,) = struct.unpack("<Q", file.content[:8])
        if length > min(file.size - 8, _MAX_HEADER_BYTES):
            raise CheckpointError(
                f"{path.name} claims a header of {length:,} bytes, but the file has {file.size:,}", hint=DOWNLOAD_AGAIN
            )
        entries = {e.name: e for e in _parse_entries(path.name, file.content[8 : 8 + length], start=8 + length)}
        _validate_layout(path.name, entries, start=8 + length, size=file.size)
        return cls(path, file.size, file.content, entries)

    def require_contiguous(self) -> None:
        """Do nothing: `open` rejects gaps."""

    def require_supported(self, entry: TensorEntry) -> None:
        """Raise CheckpointError if the tensor's dtype is not supported."""
        if entry.dtype not in _DTYPES:
            raise CheckpointError(
                f"{quoted(entry.name)} in {self.path.name} has the dtype {quoted(entry.dtype)}",
                hint="bf16, f16 and f32 are supported; quantised weights, where config.json describes them",
            )

    def tensor(self, entry: TensorEntry, name: str) -> Tensor:
        """Return the tensor under the canonical `name`."""
        dtype, view = _DTYPES[entry.dtype]
        return Tensor(name, entry.shape, dtype, self.array(view, entry.shape, entry.begin))


def _parse_entries(file: str, header: bytes, start: int) -> Iterator[TensorEntry]:
    try:
        values = strict_json.parse(header, pairs=_object_without_duplicates)
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise CheckpointError(f"the header of {file} is not readable JSON", hint=DOWNLOAD_AGAIN) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"the header of {file} is not a JSON object", hint=DOWNLOAD_AGAIN)
    for name, value in values.items():
        if name != "__metadata__":
            yield _parse_entry(file, name, value, start)


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _parse_entry(file: str, name: str, value: Any, start: int) -> TensorEntry:
    match value:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end], **rest} if (
            not rest
            and len(shape) <= 8
            and all(type(number) is int and 0 <= number < 2**63 for number in (*shape, begin, end))
        ):
            entry = TensorEntry(name, dtype, tuple(shape), start + begin, start + end)
        case _:
            raise CheckpointError(f"the header of {file} has an invalid entry for {quoted(name)}", hint=DOWNLOAD_AGAIN)
    # An unknown dtype is no error of the file: `require_supported` decides.
    if (bits := _ITEM_BITS.get(dtype)) and math.prod(shape) * bits != (end - begin) * 8:
        raise CheckpointError(
            f"in {file}, {quoted(name)} has {end - begin:,} bytes, not those of the shape {list(shape)[:8]} in {dtype}",
            hint=DOWNLOAD_AGAIN,
        )
    return entry


def _validate_layout(file: str, entries: dict[str, TensorEntry], start: int, size: int) -> None:
    """Raise CheckpointError unless the tensors fill the file without gaps or overlaps."""
    position = start
    for entry in sorted(entries.values(), key=lambda e: (e.begin, e.end)):
        if entry.begin != position or entry.end < entry.begin:
            raise CheckpointError(
                f"in {file}, {quoted(entry.name)} overlaps another tensor or leaves a gap", hint=DOWNLOAD_AGAIN
            )
        position = entry.end
    if position > size:
        raise CheckpointError(
            f"{file} is truncated: it has {size:,} bytes, but its header promises {position:,}", hint=DOWNLOAD_AGAIN
        )
    if position < size:
        raise CheckpointError(f"{file} has {size - position:,} bytes that belong to no tensor", hint=DOWNLOAD_AGAIN)
