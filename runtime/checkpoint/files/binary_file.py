"""A binary file of weights, mapped into memory or read on demand.

A model that is kept in memory uses mapped files, of which nothing is copied. If the file system does not support
mappings, files are read instead.
"""

import math
import mmap
import sys
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ...errors import CheckpointError
from ...system.files import UNMAPPABLE_ERRNOS
from .small_files import DOWNLOAD_AGAIN, LFS_POINTER, reject_lfs_pointer
from .unmapped_file import LazyArray, UnmappedFile

_HASH_CHUNK = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BinaryFile:
    """An open file, the base of the formats' files. Views stay valid while they are referenced, also after
    `release`."""

    path: Path
    size: int
    content: "mmap.mmap | UnmappedFile" = field(repr=False)

    def array(self, dtype: npt.DTypeLike, shape: tuple[int, ...], begin: int) -> npt.NDArray[Any]:
        """Return the array that starts at byte `begin`: a read-only view of a mapped file, otherwise a `LazyArray`."""
        if isinstance(self.content, UnmappedFile):
            return cast(npt.NDArray[Any], LazyArray(self.content, dtype, shape, begin))
        return np.frombuffer(self.content, dtype=dtype, count=math.prod(shape), offset=begin).reshape(shape)

    def release(self) -> None:
        """Return mapped pages to the system. They are read from disk again when a view is used."""
        # Windows trims mapped pages by itself, and has no madvise.
        if not isinstance(self.content, UnmappedFile) and sys.platform != "win32":
            self.content.madvise(mmap.MADV_DONTNEED)

    def require_unchanged(self) -> None:
        """Raise CheckpointError if an unmapped file has been written to since it was opened."""
        if isinstance(self.content, UnmappedFile):
            self.content.require_unchanged()

    def sha256(self) -> str:
        """Return the hash of the whole file, in hexadecimal."""
        digest = sha256()
        for begin in range(0, self.size, _HASH_CHUNK):
            digest.update(np.asarray(self.array(np.uint8, (min(_HASH_CHUNK, self.size - begin),), begin)).data)
            self.release()
        return digest.hexdigest()


def open_binary(path: Path, smallest: int, *, mapped: bool) -> BinaryFile:
    """Open a file of at least `smallest` bytes. Raises CheckpointError if it is missing or shorter, OSError."""
    if not path.is_file():
        raise CheckpointError(f"{path.name} is missing", hint=f"download it into {path.parent}")
    size = path.stat().st_size
    with path.open("rb") as file:
        reject_lfs_pointer(path.name, file.read(len(LFS_POINTER)))
    if size < smallest:
        raise CheckpointError(f"{path.name} has only {size} bytes", hint=DOWNLOAD_AGAIN)
    if mapped:
        with path.open("rb") as file:
            try:
                return BinaryFile(path, size, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except OSError as exc:
                if exc.errno not in UNMAPPABLE_ERRNOS:
                    raise
    return BinaryFile(path, size, UnmappedFile(path))
