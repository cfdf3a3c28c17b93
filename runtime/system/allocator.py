"""What a long context's buffers leave behind goes back to the system, but for what a conversion soon takes again.

Some of OpenVINO's buffers grow with the context, a little with every chunk of a prompt. glibc gives a large piece a
mapping of its own only above a threshold that it raises, up to 32 MB, as such pieces are freed; from then on each
buffer leaves a hole in the heap that the next one, a little larger, does not fit. With 16,384 tokens of a model of one
layer, 246 to 306 MB were taken in place of 201. A threshold that is set stays as it is (mallopt(3)).

A conversion takes and frees the same pieces of some MB thousands of times. With mappings of their own they would be
zeroed pages each time: it would take twice as long in a process that has loaded a model.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD = 1 << 20  # bytes; decoding a token allocates nothing as large, and reading a prompt is no slower
_MAX_MMAP_THRESHOLD = (
    32 << 20
)  # bytes; glibc raises its own threshold no further, and that of freed memory to twice as much
_TRIM_THRESHOLD = 128 << 10  # bytes of freed memory that glibc keeps where it has raised nothing

_threshold_set = False  # whether the threshold is ours


def set_mmap_threshold() -> None:
    """For the whole process. Who has set the threshold in the environment keeps it, and so does who has not glibc."""
    global _threshold_set  # noqa: PLW0603
    theirs = "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", "")
    if not theirs and (libc := _glibc()):
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        _threshold_set = True


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Freed pieces stay in the heap for the next ones, as where `set_mmap_threshold` was never called."""
    libc = _glibc() if _threshold_set else None
    if libc is None:  # glibc does so by itself
        yield
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
    libc.mallopt(_M_TRIM_THRESHOLD, 2 * _MAX_MMAP_THRESHOLD)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
        libc.malloc_trim(0)


def trim_heap() -> None:
    """What lies freed in the heap goes back to the system now (malloc_trim(3)). Nothing where there is no glibc."""
    if libc := _glibc():
        libc.malloc_trim(0)


class _MallocInfo(ctypes.Structure):
    """`struct mallinfo2` (mallinfo(3))."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def allocated_bytes() -> int:
    """Bytes that the heap has given out; all memory of this process where there is no glibc of 2.33 or later."""
    libc = _glibc()
    if libc is None or not hasattr(libc, "mallinfo2"):
        import psutil  # type: ignore[import-untyped]

        return int(psutil.Process().memory_info().rss)
    libc.mallinfo2.restype = _MallocInfo
    found = libc.mallinfo2()
    return int(found.uordblks + found.hblkhd)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
