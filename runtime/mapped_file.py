"""A file of weights, mapped into memory: bytes of it as arrays, nothing copied, and its pages given back when used."""

import math
import mmap
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .architecture import DOWNLOAD_AGAIN
from .errors import CheckpointError

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
class MappedFile:
    """An open file. Views stay valid for as long as someone holds them, also after `release`."""

    path: Path
    size: int
    mapping: mmap.mmap = field(repr=False)

    def array(self, dtype: npt.DTypeLike, shape: tuple[int, ...], begin: int) -> npt.NDArray[Any]:
        """The bytes from `begin` on as an array, read-only, nothing copied."""
        return np.frombuffer(self.mapping, dtype=dtype, count=math.prod(shape), offset=begin).reshape(shape)

    def release(self) -> None:
        """Gives the mapped pages back to the system; the next reader of a view has them read from disk again."""
        if hasattr(mmap, "MADV_DONTNEED"):  # Windows has no madvise, and trims mapped pages by itself
            self.mapping.madvise(mmap.MADV_DONTNEED)

    def sha256(self) -> str:
        """The hash of the whole file, in hexadecimal."""
        digest = sha256()
        with memoryview(self.mapping) as content:
            for begin in range(0, self.size, _HASHED_AT_ONCE):
                digest.update(content[begin : begin + _HASHED_AT_ONCE])
                self.release()
        return digest.hexdigest()


def mapped(path: Path, smallest: int) -> MappedFile:
    """Maps a file of at least so many bytes. Raises CheckpointError where it is missing or cut short, OSError."""
    if not path.is_file():
        raise CheckpointError(f"{path.name} is missing", hint=f"download it into {path.parent}")
    size = path.stat().st_size
    if size < smallest:
        raise CheckpointError(f"{path.name} has only {size} bytes", hint=DOWNLOAD_AGAIN)
    with path.open("rb") as file:
        return MappedFile(path, size, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
