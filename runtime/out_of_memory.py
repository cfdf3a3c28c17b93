"""Out of memory, as each library says it: the user's error has one cure, whichever of them met the end first."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .errors import EdgeError

MESSAGE = "there is too little memory"
CURE = "close other programs, lift a limit such as that of `ulimit -v`, or take a smaller model or recipe"

# C++'s std::bad_alloc (OpenVINO, NNCF), the dynamic loader, mmap and Rust, oneDNN's kernels, numpy, PyTorch; the memory
# of a GPU is another one. A thread whose stack cannot be mapped is EAGAIN.
_SAID = re.compile(
    r"bad.alloc|bad array new|failed to map segment|cannot allocate memory|can't alloc|not enough memory"
    r"|can't start new thread|resource temporarily unavailable|unable to allocate|(?<!cuda )(?<!xpu )out of memory"
    r"|\(os error (?:11|12)\)",
    re.IGNORECASE,
)


def is_out_of_memory(exc: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, says that memory is short."""
    while exc is not None:
        if isinstance(exc, MemoryError) or (isinstance(exc, OSError) and exc.errno == errno.ENOMEM):
            return True
        if isinstance(exc, SystemError) and _is_limited():  # "error return without exception set", of a C extension
            return True
        if (isinstance(exc, RuntimeError | ImportError) or type(exc) is Exception) and says_out_of_memory(str(exc)):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def says_out_of_memory(text: str) -> bool:
    """Return whether that is what a library prints where memory is short."""
    return bool(_SAID.search(text))


@contextmanager
def memory_told(kind: type[EdgeError]) -> Iterator[None]:
    """Raise an error of this kind, with the cure, where what is done inside fails because memory is short."""
    try:
        yield
    except Exception as exc:
        if is_out_of_memory(exc) and not (isinstance(exc, EdgeError) and exc.hint == CURE):
            raise kind(MESSAGE, hint=CURE) from exc
        raise


def _is_limited() -> bool:
    """Return whether somebody has limited the process's addresses (`ulimit -v`)."""
    with suppress(ImportError):  # Windows
        import resource

        return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    return False
