"""Recognizing that memory ran out, whichever library reports it, and turning that into one error with one cure."""

import errno
import mmap
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import EdgeError

MESSAGE = "there is too little memory"
HINT = "close other programs, lift a limit such as that of `ulimit -v`, or take a smaller model or recipe"

_START_UP_BYTES = 400 << 20  # bytes of address space that OpenVINO's libraries and threads take

# Messages of C++'s std::bad_alloc (OpenVINO, NNCF), the dynamic loader, mmap and Rust, oneDNN's kernels, numpy and
# PyTorch, but not of a GPU's memory. A thread whose stack cannot be mapped fails with EAGAIN.
_MESSAGE_PATTERN = re.compile(
    r"bad.alloc|bad array new|failed to map segment|(?:cannot|can not|could not|can't) alloc|not enough memory"
    r"|can't start new thread|resource temporarily unavailable|unable to allocate|(?<!cuda )(?<!xpu )out of memory"
    r"|\(os error (?:11|12)\)",
    re.IGNORECASE,
)


def is_out_of_memory(exc: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is an out-of-memory error."""
    while exc is not None:
        if isinstance(exc, MemoryError) or (isinstance(exc, OSError) and exc.errno == errno.ENOMEM):
            return True
        if (
            isinstance(exc, SystemError) and _address_limit() is not None
        ):  # "error return without exception set", of a C extension
            return True
        if (isinstance(exc, RuntimeError | ImportError) or type(exc) is Exception) and reports_out_of_memory(str(exc)):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def reports_out_of_memory(text: str) -> bool:
    """Return whether a library's message reports that memory ran out."""
    return bool(_MESSAGE_PATTERN.search(text))


@contextmanager
def map_out_of_memory(kind: type[EdgeError]) -> Iterator[None]:
    """Turn an out-of-memory failure of the block into an error of this kind, with its cure."""
    try:
        yield
    except Exception as exc:
        if is_out_of_memory(exc) and not (isinstance(exc, EdgeError) and exc.hint == HINT):
            raise kind(MESSAGE, hint=HINT) from exc
        raise


def require_addresses() -> None:
    """Raise MemoryError if `ulimit -v` leaves too little address space for OpenVINO, whose start-up would hang."""
    limit = _address_limit()
    with suppress(OSError):  # only Linux reports what is in use
        if limit is not None and limit - _addresses_in_use() < _START_UP_BYTES:
            raise MemoryError


def _address_limit() -> int | None:
    """Return the limit of the process's address space in bytes (`ulimit -v`); None if there is none."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _addresses_in_use() -> int:
    """Return the bytes of address space in use. Raises OSError if the system does not report them."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * mmap.PAGESIZE
