"""A file that its file system does not map into memory, as some network and shared folders do not: read piece by piece.

What is read is the caller's to keep, so that memory is bounded by the rows that are asked for at a time.
"""

import errno
import threading
import weakref
from math import prod
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .files import named


class UnmappedFile:
    """Stands where a mapping would: slices of it are bytes. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def __getitem__(self, part: slice) -> bytes:
        out = bytearray(part.stop - (part.start or 0))
        self.read(part.start or 0, memoryview(out))
        return bytes(out)

    def read(self, begin: int, out: memoryview) -> None:
        """Fills `out` with the bytes from `begin` on. Raises OSError where the file has grown shorter."""
        with self._lock, named(self._file.name):
            self._file.seek(begin)
            while len(out):
                if not (read := self._file.readinto(out)):
                    raise OSError(errno.EIO, "it has been cut short")
                out = out[read:]


class Rows:
    """A tensor in such a file, which is read when an array is made of it. A slice of its rows is another one; rows by
    their numbers are an array.
    """

    flags = np.empty(0).flags  # of what is read: owned, aligned, in order

    def __init__(self, file: UnmappedFile, dtype: npt.DTypeLike, shape: tuple[int, ...], begin: int) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._file, self._begin = file, begin
        self._row = prod(shape[1:]) * self.dtype.itemsize  # bytes

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return len(self) * self._row

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, rows: slice) -> "Rows": ...
    @overload
    def __getitem__(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]: ...
    def __getitem__(self, rows: "slice | npt.NDArray[np.integer[Any]]") -> "Rows | npt.NDArray[Any]":
        if not isinstance(rows, slice):
            return np.concatenate([np.asarray(self[int(row) : int(row) + 1]) for row in rows])
        first, end, _ = rows.indices(len(self))
        shape = (max(0, end - first), *self.shape[1:])
        return Rows(self._file, self.dtype, shape, self._begin + first * self._row)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        found = np.empty(self.shape, self.dtype)
        self._file.read(self._begin, found.reshape(-1).view(np.uint8).data)
        return found if dtype is None else found.astype(dtype, copy=False)
