"""The rows of a quantised matrix in one layout, whatever the format: codes, scales, and zero points.

A code of 4 or 8 bits stands for an integer, from which the zero point of its group is subtracted, or for a value of a
table (FP8, NF4). It is multiplied by the scale of its group: of some neighbouring columns, or of those that an index
names. A row is a record of a numpy array with the fields `codes` (bytes; of two 4-bit codes the first is in the lower
half), `scale` (f32, one a group) and, for integers, `zero` (u8, one a group).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_DECODE_CHUNK = 1 << 21  # weights at a time: 8 MB in f32


@dataclass(frozen=True, slots=True)
class GroupLayout:
    """How the codes of a row become values.

    `group` counts neighbouring columns with a common scale. `index` names the group of each column where that is
    another, as GPTQ's g_idx does after reordering columns. `values` is the table of codes, None for integers.
    `zero` is the zero point of all groups, None if each has its own.
    """

    columns: int
    bits: int
    group: int
    zero: int | None = None
    index: Array | None = field(default=None, compare=False)
    values: Array | None = field(default=None, compare=False)

    @property
    def groups(self) -> int:
        """The number of scales in a row."""
        return -(-self.columns // self.group) if self.index is None else int(self.index.max(initial=0)) + 1

    @property
    def record(self) -> np.dtype[Any]:
        """The dtype of a row."""
        fields: list[tuple[str, str, tuple[int]]] = [
            ("codes", "u1", (self.columns * self.bits // 8,)),
            ("scale", "<f4", (self.groups,)),
        ]
        return np.dtype(fields if self.values is not None else [*fields, ("zero", "u1", (self.groups,))])

    def rows(self, codes: Array, scale: Array, zero: Array | None = None) -> Array:
        """Return records of codes (rows, bytes), scales and zero points (rows, groups)."""
        found = np.empty(len(codes), self.record)
        found["codes"], found["scale"] = codes, scale
        if self.values is None:
            found["zero"] = self.zero if zero is None else zero
        return found

    def decode(self, rows: Array) -> npt.NDArray[np.float32]:
        """Return the values of records: (rows) -> (rows, columns)."""
        found = np.empty((len(rows), self.columns), np.float32)
        step = max(1, _DECODE_CHUNK // self.columns)
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            codes = unpack_nibbles(part["codes"]) if self.bits == 4 else part["codes"]
            out = found[first : first + step]
            if self.values is None:
                out[:] = codes
                out -= self._spread(part["zero"])
            else:
                out[:] = self.values[codes]
            out *= self._spread(part["scale"])
        return found

    def _spread(self, groups: Array) -> Array:
        """Return the value of each column: (rows, groups) -> (rows, columns)."""
        if self.index is not None:
            return np.asarray(groups[:, self.index])
        if groups.shape[1] == 1:
            return groups
        return np.repeat(groups, self.group, 1)[:, : self.columns]


class StoredPart(NamedTuple):
    """A tensor of the file that a quantised matrix is made of. `dtype` is safetensors' name of its type."""

    name: str
    file: str
    dtype: str
    raw: Array

    @property
    def is_dense(self) -> bool:
        """False for zero points and indices, which may be zero for long."""
        return not self.name.endswith(("zeros", "zero_point", "g_idx"))


RowReader = Callable[[int, int], Array]  # the first row, and the row after the last -> their records


@dataclass(frozen=True, slots=True)
class QuantizedMatrix:
    """A quantised matrix of a checkpoint.

    `format` is for people. `open` returns a function that reads the records of some rows; it may keep the codes of the
    whole matrix, which formats that pack columns can read only together.
    """

    format: str
    rows: int
    layout: GroupLayout
    parts: Sequence[StoredPart]
    open: Callable[[], RowReader]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.layout.columns

    def records(self) -> "LazyRows":
        """Return the records of all rows, which are read when they are used."""
        return LazyRows(self, self.open(), 0, self.rows)


class LazyRows:
    """Records of rows of a quantised matrix. They are read when they are converted to an array.

    A slice is another LazyRows; rows selected by their indices are an array.
    """

    flags = np.empty(0).flags  # of the array that is read: owned, aligned, contiguous

    def __init__(self, matrix: QuantizedMatrix, read: RowReader, first: int, end: int) -> None:
        self.dtype, self.shape = matrix.layout.record, (end - first,)
        self._matrix, self._read, self._first = matrix, read, first

    @property
    def nbytes(self) -> int:
        """The bytes of these rows in the files."""
        return sum(part.raw.nbytes for part in self._matrix.parts) * len(self) // max(1, self._matrix.rows)

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, rows: slice) -> "LazyRows": ...
    @overload
    def __getitem__(self, rows: npt.NDArray[np.integer[Any]]) -> Array: ...
    def __getitem__(self, rows: "slice | npt.NDArray[np.integer[Any]]") -> "LazyRows | Array":
        if not isinstance(rows, slice):
            return np.concatenate([np.asarray(self[int(row) : int(row) + 1]) for row in rows])
        first, end, _ = rows.indices(len(self))
        return LazyRows(self._matrix, self._read, self._first + first, self._first + max(first, end))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return self._read(self._first, self._first + len(self))


def unpack_nibbles(packed: Array) -> Array:
    """Unpack bytes (n, m) -> 4-bit codes (n, 2m), the first of two neighbours from the lower half."""
    found = np.empty((*packed.shape, 2), np.uint8)
    found[..., 0] = packed & 15
    found[..., 1] = packed >> 4
    return found.reshape(len(packed), -1)


def pack_nibbles(codes: Array) -> Array:
    """Pack 4-bit codes (n, 2m) -> bytes (n, m), the first of two neighbours into the lower half."""
    return np.asarray(codes[:, ::2] | codes[:, 1::2] << np.uint8(4))


def unpack_words(words: Array, bits: int) -> Array:
    """Unpack 32-bit words (n, m) -> codes (n, m * 32 / bits) in u8, the first from the lowest bits."""
    found = np.ascontiguousarray(words, "<u4").view(np.uint8).reshape(len(words), -1)
    return unpack_nibbles(found) if bits == 4 else found
