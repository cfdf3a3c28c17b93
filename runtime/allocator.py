"""What a long context's buffers leave behind goes back to the system.

Some of OpenVINO's buffers grow with the context, a little with every chunk of a prompt. glibc gives a large piece a
mapping of its own only above a threshold that it raises, up to 32 MB, as such pieces are freed; from then on each
buffer leaves a hole in the heap that the next one, a little larger, does not fit. With 16,384 tokens of a model of one
layer, 246 to 306 MB were taken in place of 201. A threshold that is set stays as it is (mallopt(3)).
"""

import ctypes
import os
import sys

_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 20  # bytes; decoding a token allocates nothing as large, and reading a prompt is no slower


def give_large_pieces_back() -> None:
    """For the whole process. Who has set the threshold in the environment keeps it, and so does who has not glibc."""
    theirs = "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", "")
    if not theirs and (libc := _glibc()):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)


def give_free_pages_back() -> None:
    """What lies freed in the heap goes back to the system now (malloc_trim(3)). Nothing where there is no glibc."""
    if libc := _glibc():
        libc.malloc_trim(0)


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` (mallinfo(3))."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def allocated() -> int:
    """Bytes that the heap has given out; all memory of this process where there is no glibc of 2.33 or later."""
    libc = _glibc()
    if libc is None or not hasattr(libc, "mallinfo2"):
        import psutil  # type: ignore[import-untyped]

        return int(psutil.Process().memory_info().rss)
    libc.mallinfo2.restype = _MallInfo
    found = libc.mallinfo2()
    return int(found.uordblks + found.hblkhd)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
