"""The rows of a matrix with LoRA updates added to them, computed when they are read.

W' = W + s·B·A, and with DoRA each row of that is scaled to the length that was trained (equation 5 of
https://arxiv.org/abs/2402.09353). All arithmetic is in f32, as in PEFT; the result is rounded once, to the type of the
base matrix, or to f32 if that is quantized.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ...errors import CheckpointError
from ...text import quoted
from ..tensor import Dtype, Tensor

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.integer[Any]]
_BLOCK = 1 << 21  # weights that are merged at a time: 8 MB in f32


@dataclass(frozen=True)
class LowRank:
    """An update of a matrix (rows, columns): `scale` · `left` (rows, rank) · `right` (rank, columns).

    `magnitude` (rows) is DoRA's. With `transposed` both factors are stored transposed, as for an embedding. Tensors are
    read from their file when the values are first used.
    """

    left: Tensor
    right: Tensor
    scale: float
    magnitude: Tensor | None = None
    transposed: bool = False

    @cached_property
    def factors(self) -> tuple[Floats, Floats]:
        """`left` and `right`, both in f32."""
        left, right = _finite(self.left), _finite(self.right)
        if self.transposed:
            left, right = left.T, right.T
        return left, right

    @cached_property
    def lengths(self) -> Floats | None:
        """DoRA's magnitudes in f32; None for plain LoRA."""
        return None if self.magnitude is None else _finite(self.magnitude).reshape(-1)

    def apply(self, base: Floats, rows: slice | Indices) -> Floats:
        """Add the update to some rows of the base matrix, in place; return them."""
        left, right = self.factors
        base += (left[rows] @ right) * np.float32(self.scale)
        if self.lengths is not None:
            norms = np.sqrt(np.einsum("ij,ij->i", base, base, dtype=np.float64)).astype(np.float32)
            base *= (self.lengths[rows] / norms)[:, np.newaxis]
        return base


class MergedRows:
    """A matrix with its updates, as `Tensor.raw` of the merged tensor: an array that is computed when it is read.

    A slice of rows is another MergedRows; rows selected by their indices are an array.
    """

    flags = np.empty(0).flags  # of the array that is computed: owned, aligned, contiguous

    def __init__(self, base: Tensor, updates: Sequence[LowRank], dtype: Dtype, first: int = 0) -> None:
        """`base` starts at row `first` of the matrix that the updates are for; the result is rounded to `dtype`."""
        self._base, self._updates, self._dtype, self._first = base, updates, dtype, first
        self.shape = base.shape
        self.dtype = np.dtype(_STORED[dtype])

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return prod(self.shape) * self.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, rows: slice) -> "MergedRows": ...
    @overload
    def __getitem__(self, rows: Indices) -> npt.NDArray[Any]: ...
    def __getitem__(self, rows: "slice | Indices") -> "MergedRows | npt.NDArray[Any]":
        if isinstance(rows, slice):
            first, end, _ = rows.indices(len(self))
            return MergedRows(self._base.rows(first, max(first, end)), self._updates, self._dtype, self._first + first)
        return self._merge(self._base.gather(rows), rows + self._first)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        found = np.empty(self.shape, self.dtype)
        step = max(1, _BLOCK * len(self) // max(1, prod(self.shape)))
        for first in range(0, len(self), step):
            part = self._base.rows(first, min(first + step, len(self)))
            begin = self._first + first
            found[first : first + step] = self._merge(part, slice(begin, begin + len(part.raw)))
        return found if dtype is None else found.astype(dtype, copy=False)

    def _merge(self, base: Tensor, rows: slice | Indices) -> npt.NDArray[Any]:
        values = base.f32()
        for update in self._updates:
            values = update.apply(values, rows)
        return _to_bf16(values) if self.dtype == np.uint16 else values.astype(self.dtype, copy=False)


_STORED: dict[Dtype, npt.DTypeLike] = {"bf16": np.uint16, "f16": np.float16, "f32": np.float32}


def merge(base: Tensor, updates: Sequence[LowRank], dtype: Dtype) -> Tensor:
    """Return the tensor with the updates added to it, rounded to `dtype`. Nothing is read yet."""
    rows: Any = MergedRows(base, updates, dtype)
    return replace(base, raw=rows, dtype=dtype, decode=None, quantization="", layout=None, parts=())


def _finite(tensor: Tensor) -> Floats:
    """Return the values in f32. Raises CheckpointError for NaN and infinity."""
    values = tensor.f32()
    if not np.isfinite(values).all():
        raise CheckpointError(
            f"{quoted(tensor.name)} of the adapter has NaN or infinity",
            hint="download the adapter again; if that does not help, its training diverged",
        )
    return values


def _to_bf16(values: Floats) -> npt.NDArray[np.uint16]:
    """Round to the nearest bf16, ties to even, and return its bits."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)
