"""A file of weights that is read on demand instead of being mapped into memory.

If a mapped file becomes shorter, because its download restarts, or its disk fails, the process that reads it is killed
(SIGBUS). Reading raises an error instead. Some network and shared folders do not support mappings at all.

Nothing is cached, so memory is bounded by the rows that a caller reads at a time.
"""

import errno
import os
import threading
import weakref
from math import prod
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ...errors import CheckpointError

FINISH_DOWNLOAD_HINT = "finish its download, then do the same again"
_BLOCK = 1 << 16  # bytes read at once for small slices next to each other, as in a header


class FileTruncated(OSError):
    """The file ended before the bytes to be read."""


class UnmappedFile:
    """An open file whose slices are bytes, like those of an mmap. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        self._opened_stat = self._stat()
        self._block, self._block_begin = b"", 0
        weakref.finalize(self, self._file.close)

    def __getitem__(self, part: slice) -> bytes:
        begin, end = part.start or 0, part.stop
        at = begin - self._block_begin
        if end - begin < _BLOCK and not 0 <= at <= len(self._block) - (end - begin):
            size = min(_BLOCK, max(end, os.fstat(self._file.fileno()).st_size) - begin)
            self._block, self._block_begin, at = self._read(begin, size), begin, 0
        return self._block[at : at + end - begin] if end - begin < _BLOCK else self._read(begin, end - begin)

    def read(self, begin: int, out: memoryview) -> None:
        """Fill `out` with the bytes from `begin` on. Raises FileTruncated if the file ends before."""
        with self._lock:
            self._file.seek(begin)
            while len(out):
                if not (read := self._file.readinto(out)):
                    raise FileTruncated(errno.EIO, "it has been cut short", str(self.path))
                out = out[read:]

    def require_unchanged(self) -> None:
        """Raise CheckpointError if the file has been written to since it was opened."""
        require_unchanged(self.path.name, self._opened_stat, self._stat())

    def _read(self, begin: int, size: int) -> bytes:
        out = bytearray(size)
        self.read(begin, memoryview(out))
        return bytes(out)

    def _stat(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


class LazyArray:
    """A tensor in an unmapped file. It is read when it is converted to an array; that raises CheckpointError.

    A slice of rows is another LazyArray; rows selected by their indices are an array.
    """

    flags = np.empty(0).flags  # of the array that is read: owned, aligned, contiguous

    def __init__(self, file: UnmappedFile, dtype: npt.DTypeLike, shape: tuple[int, ...], begin: int) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._file, self._begin = file, begin
        self._row = prod(shape[1:]) * self.dtype.itemsize  # bytes

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return len(self) * self._row

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, rows: slice) -> "LazyArray": ...
    @overload
    def __getitem__(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]: ...
    def __getitem__(self, rows: "slice | npt.NDArray[np.integer[Any]]") -> "LazyArray | npt.NDArray[Any]":
        if not isinstance(rows, slice):
            return np.concatenate([np.asarray(self[int(row) : int(row) + 1]) for row in rows])
        first, end, _ = rows.indices(len(self))
        shape = (max(0, end - first), *self.shape[1:])
        return LazyArray(self._file, self.dtype, shape, self._begin + first * self._row)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        found = np.empty(self.shape, self.dtype)
        try:
            self._file.read(self._begin, found.reshape(-1).view(np.uint8).data)
        except OSError as exc:
            raise _map_read_error(self._file.path.name, exc) from exc
        return found if dtype is None else found.astype(dtype, copy=False)


def require_unchanged(name: str, first: tuple[int, int], now: tuple[int, int]) -> None:
    """Raise CheckpointError if a file's size and time of change are not those of the `first` look at it."""
    if now != first:
        what = "became shorter" if now[0] < first[0] else "changed"
        raise CheckpointError(f"{name} {what} while it was read", hint=FINISH_DOWNLOAD_HINT)


def _map_read_error(name: str, exc: OSError) -> CheckpointError:
    if isinstance(exc, FileTruncated):
        return CheckpointError(f"{name} became shorter while it was read", hint=FINISH_DOWNLOAD_HINT)
    return CheckpointError(
        f"{name} cannot be read: {(exc.strerror or str(exc)).lower()}", hint="check the disk that the checkpoint is on"
    )
