"""A file of weights: read piece by piece, or, for whoever keeps a model of it in memory, mapped, nothing copied.

Where the file system does not map files, they are read in any case.
"""

import math
import mmap
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError
from ..system.files import UNMAPPABLE_ERRNOS
from .small_files import DOWNLOAD_AGAIN
from .unmapped_file import LazyArray, UnmappedFile

_HASH_CHUNK = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BinaryFile:
    """An open file. Views stay valid for as long as someone holds them, also after `release`."""

    path: Path
    size: int
    content: "mmap.mmap | UnmappedFile" = field(repr=False)

    def array(self, dtype: npt.DTypeLike, shape: tuple[int, ...], begin: int) -> npt.NDArray[Any]:
        """The bytes from `begin` on: `LazyArray`; of a mapped file an array, read-only, nothing copied."""
        if isinstance(self.content, UnmappedFile):
            return cast(npt.NDArray[Any], LazyArray(self.content, dtype, shape, begin))
        return np.frombuffer(self.content, dtype=dtype, count=math.prod(shape), offset=begin).reshape(shape)

    def release(self) -> None:
        """Gives the mapped pages back to the system; the next reader of a view has them read from disk again."""
        # Windows has no madvise, and trims mapped pages by itself.
        if not isinstance(self.content, UnmappedFile) and hasattr(mmap, "MADV_DONTNEED"):
            self.content.madvise(mmap.MADV_DONTNEED)

    def require_unchanged(self) -> None:
        """Raises CheckpointError where a file that is read has been written to since it was opened."""
        if isinstance(self.content, UnmappedFile):
            self.content.require_unchanged()

    def sha256(self) -> str:
        """The hash of the whole file, in hexadecimal."""
        digest = sha256()
        for begin in range(0, self.size, _HASH_CHUNK):
            digest.update(np.asarray(self.array(np.uint8, (min(_HASH_CHUNK, self.size - begin),), begin)).data)
            self.release()
        return digest.hexdigest()


def open_binary(path: Path, smallest: int, *, mapped: bool) -> BinaryFile:
    """Opens a file of at least so many bytes. Raises CheckpointError where it is missing or cut short, OSError."""
    if not path.is_file():
        raise CheckpointError(f"{path.name} is missing", hint=f"download it into {path.parent}")
    size = path.stat().st_size
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
