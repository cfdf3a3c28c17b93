"""The heap of this process: what it has given out, and the library that it belongs to."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes


def allocated_bytes() -> int:
    """Return the bytes that the heap has given out (mallinfo(3)), or the process's resident memory before glibc 2.33
    and on other systems."""
    import ctypes

    libc = glibc()
    if libc is None or not hasattr(libc, "mallinfo2"):
        import psutil  # type: ignore[import-untyped]

        return int(psutil.Process().memory_info().rss)

    class MallocInfo(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = tuple((name, ctypes.c_size_t) for name in names.split())

    libc.mallinfo2.restype = MallocInfo
    found = libc.mallinfo2()
    return int(found.uordblks + found.hblkhd)


def glibc() -> "ctypes.CDLL | None":
    """Return the C library of this process if it is glibc."""
    import ctypes

    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
