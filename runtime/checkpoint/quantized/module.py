"""The tensors of one quantised module: found by their suffixes, checked, and read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import CheckpointError
from ...text import quoted
from ..files.safetensors_file import SafetensorsFile
from ..files.weight_file import TensorEntry
from .layout import Array, StoredPart

_VIEWS: dict[str, npt.DTypeLike] = {
    "I64": "<i8",
    "I32": "<i4",
    "I8": np.int8,
    "U8": np.uint8,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
    "BF16": "<u2",
    "F16": "<f2",
    "F32": "<f4",
}
_FLOATS = ("BF16", "F16", "F32")
_HINT = "the weights are damaged, or of a format that is not supported: convert the original bf16 checkpoint"


@dataclass(frozen=True, slots=True)
class ModuleTensors:
    """The tensors of the module `name` by what follows its name: `qweight`, `scales`, `weight.absmax` and so on."""

    name: str
    entries: Mapping[str, tuple[SafetensorsFile, TensorEntry]]

    def __contains__(self, suffix: str) -> bool:
        return suffix in self.entries

    def dtype(self, suffix: str) -> str:
        """Return safetensors' name of a tensor's dtype."""
        return self.entries[suffix][1].dtype

    def part(self, suffix: str, *dtypes: str) -> StoredPart:
        """Return a tensor of one of these dtypes (any that can be read, if none is given). Raises CheckpointError."""
        if suffix not in self.entries:
            raise self.invalid(f"{suffix} is missing")
        file, entry = self.entries[suffix]
        if entry.dtype not in (dtypes or _VIEWS):
            raise self.invalid(f"{suffix} has the dtype {quoted(entry.dtype)}")
        raw = file.array(_VIEWS[entry.dtype], entry.shape, entry.begin)
        return StoredPart(entry.name, file.path.name, entry.dtype, raw)

    def matrix(self, suffix: str, *dtypes: str) -> StoredPart:
        """Return the module's tensor of that suffix. Raises CheckpointError unless it has two dimensions and one of
        the `dtypes`."""
        found = self.part(suffix, *dtypes)
        if len(found.raw.shape) != 2 or 0 in found.raw.shape:
            raise self.invalid(f"{suffix} has the shape {list(found.raw.shape)[:8]}")
        return found

    def floats(self, suffix: str) -> StoredPart:
        """Return a tensor of bf16, f16 or f32. Raises CheckpointError."""
        return self.part(suffix, *_FLOATS)

    def bytes_of(self, suffix: str) -> StoredPart:
        """Return a tensor's bytes, whatever its dtype. Raises CheckpointError."""
        found = self.part(suffix)
        file, entry = self.entries[suffix]
        raw = file.array(np.uint8, (entry.end - entry.begin,), entry.begin)
        return found._replace(dtype="U8", raw=raw)

    def invalid(self, what: str) -> CheckpointError:
        """Return the error for a module whose tensors do not belong together."""
        return CheckpointError(f"the quantised weights of {quoted(self.name)} cannot be read: {what}", hint=_HINT)


def as_f32(part: StoredPart, rows: slice = slice(None)) -> npt.NDArray[np.float32]:
    """Return the values of a tensor, or of some rows of it, as f32."""
    found: Array = np.asarray(part.raw if rows == slice(None) else part.raw[rows])
    if part.dtype == "BF16":
        return (found.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(found, np.float32)


def integers(part: StoredPart) -> npt.NDArray[Any]:
    """Return the values of a tensor of integers."""
    return np.asarray(part.raw)
