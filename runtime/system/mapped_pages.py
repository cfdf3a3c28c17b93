"""The pages of a file that this process has mapped: read ahead of their use, and given back after it.

Mapped pages that were read count as the process's memory until the system needs them. Linux only: Windows trims them by
itself, and macOS has no list of a process's mappings.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MADV_DONTNEED = 4


def release_mapped_pages(path: Path) -> None:
    """Give back the pages of a file that is mapped for reading. They stay in the system's cache; one that is read again
    comes from there."""
    if sys.platform != "linux":
        return
    with suppress(OSError):
        libc = ctypes.CDLL(None)
        for start, end in _read_only_mappings(path):
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


def _read_only_mappings(path: Path) -> Iterator[tuple[int, int]]:
    """Yield the addresses at which a file is mapped. One that can be written may have changes of its own."""
    name = os.fsencode(path.resolve()).replace(b"\n", rb"\012")  # the kernel's own escape
    for line in Path("/proc/self/maps").read_bytes().split(b"\n"):
        place, rights, _, _, _, mapped = (*line.split(maxsplit=5), *[b""] * 6)[:6]
        if mapped == name and b"w" not in rights:
            start, end = place.split(b"-")
            yield int(start, 16), int(end, 16)
