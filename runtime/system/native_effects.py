"""Everything that we change for a whole process: libraries, the allocator, signals, the environment, logging.

    effect                          why                                                     caller
    disable_telemetry               OpenVINO, NNCF and huggingface_hub report on their use  import runtime
    set_mmap_threshold              freed blocks of MBs leave holes in glibc's heap         GenAI's loading, the server
    raise_mmap_threshold            NNCF's temporaries would be zeroed pages each time      compressing a matrix
    keep_freed_memory               so would the blocks of a conversion                     a conversion
    trim_heap                       freed memory stays with the process                     compression, large requests
    disable_alternate_signal_stack  OpenVINO leaves a thread a stack that is gone           after each load
    set_onednn_cache_capacity       oneDNN forgets the kernels of our batch sizes           the engine process
    environment_variables           the hub's library reads its proxies from there          downloads
    temporary_home                  NNCF needs a home folder when it is imported            importing NNCF
    one_blas_thread                 its sums depend on its threads; ours are beside it      compressing by int4-fit
    quiet_nncf                      NNCF draws bars and logs where we draw one              compressing a matrix
    quiet_transformers              transformers does, too                                  the torch engine
    quiet_hub                       huggingface_hub does, too, for each attempt             downloads
    quiet_logging                   transformers warns that it found no torch               writing the tokenizer IR
    quiet_mcp                       the SDK of MCP logs a server's faults to the terminal   opening MCP servers
    ignore_user_warnings            they warn of what we do on purpose                      the torch engine, downloads

A context manager undoes its effect at the end of the block; blocks of several threads may overlap.

Elsewhere, in processes that are ours alone: `edge.cli` (output streams, how a warning is printed), `edge.server`
(logging, signals, standard output and error), `runtime.backends.child` (signals, ending with the parent),
`runtime.documents.reader` (its limit on memory) and `runtime.isolation` (all that confines its process).
`convert.output.scratch` handles signals while a conversion runs. tests/test_native_effects.py fails on any other.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from threading import Lock
from types import FunctionType
from typing import TYPE_CHECKING, Any

from .heap import glibc

if TYPE_CHECKING:
    import logging


def _shared(change: Callable[[], AbstractContextManager[None]]) -> Callable[[], AbstractContextManager[None]]:
    """Let overlapping blocks share a change: the first one makes it, the last one undoes it."""
    lock, undo, users = Lock(), ExitStack(), 0

    @wraps(change)
    @contextmanager
    def context() -> Iterator[None]:
        nonlocal users
        with lock:
            if not users:
                undo.enter_context(change())
            users += 1
        try:
            yield
        finally:
            with lock:
                users -= 1
                if not users:
                    undo.close()

    return context


# Telemetry. `import openvino` posts an event with a lasting client id to a web analytics service and leaves it under
# ~/intel; NNCF does the same for every compression, and huggingface_hub counts its callers.

TELEMETRY_VARIABLES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, transformers, gradio
    "DO_NOT_TRACK": "1",  # libraries that follow https://consoledonottrack.com
}
# The first statement of a Python process that we start to run somebody else's code.
TELEMETRY_PREAMBLE = "import sys; sys.modules['openvino_telemetry'] = None"


def disable_telemetry() -> None:
    """Turn telemetry off in this process and, by the environment, in its children. Call it before OpenVINO is imported.

    `sys.modules["openvino_telemetry"]` becomes None: OpenVINO and NNCF do without it. If an application has imported it
    before us, its `Telemetry` does nothing from now on. Variables that the user has set stay as they are.
    huggingface_hub reads its variable when it is imported; if that has happened, its constant is set.
    """
    for name, value in TELEMETRY_VARIABLES.items():
        os.environ.setdefault(name, value)
    loaded: Any = sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if telemetry := getattr(loaded, "Telemetry", None):
        for name, value in list(vars(telemetry).items()):
            if isinstance(value, FunctionType):
                setattr(telemetry, name, lambda *_, **__: None)
    hub = sys.modules.get("huggingface_hub.constants")
    if hub is not None and os.environ["HF_HUB_DISABLE_TELEMETRY"] == TELEMETRY_VARIABLES["HF_HUB_DISABLE_TELEMETRY"]:
        hub.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]


@_shared
@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let numpy's BLAS use one thread a call: the same sums in the same order on any number of cores."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1, "blas"):
        yield


# The allocator. Some of OpenVINO's buffers grow with the context, a little with every chunk of a prompt. glibc maps a
# block by itself only above a threshold, which it raises, up to 32 MB, as such blocks are freed; from then on each
# buffer leaves a hole in the heap that the next one, a little larger, does not fit. With 16,384 tokens in a model of
# one layer, the process takes 246 to 306 MB instead of 201 MB. A threshold that is set no longer changes (mallopt(3)).

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD = 1 << 20  # bytes; decoding allocates nothing as large, and prefill is not slower
_MAX_MMAP_THRESHOLD = 32 << 20  # bytes; glibc's own maximum; it sets the trim threshold to twice as much
_TRIM_THRESHOLD = 128 << 10  # bytes; glibc's default

_threshold_set = False  # whether set_mmap_threshold has taken effect


def set_mmap_threshold() -> None:
    """Give each block of 1 MiB or more a mapping of its own, returned to the system when it is freed. Does nothing if
    the environment sets the threshold, or without glibc."""
    global _threshold_set  # noqa: PLW0603
    is_users = "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", "")
    if not is_users and (libc := glibc()):
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        _threshold_set = True


def raise_mmap_threshold() -> None:
    """Raise glibc's own threshold to its maximum by freeing such a block. It has no effect after set_mmap_threshold."""
    if glibc():
        bytearray(_MAX_MMAP_THRESHOLD - (1 << 20))


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed blocks in the heap, as if `set_mmap_threshold` had not been called.

    A conversion allocates and frees the same blocks of some MB thousands of times. Mapped each time, they would be
    zeroed each time, and the conversion would take twice as long in a process that has loaded a model.
    """
    libc = glibc() if _threshold_set else None
    if libc is None:  # glibc adapts by itself
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
    """Return the heap's free pages to the system (malloc_trim(3)). Does nothing without glibc."""
    if libc := glibc():
        libc.malloc_trim(0)


def disable_alternate_signal_stack() -> None:
    """Have this thread take signals on its own stack again (sigaltstack(2)). Call it after a load.

    OpenVINO's CPU plugin (2026.4) gives the thread that loads it an alternate stack. When several instances of the
    plugin come and go, as in loading one model after another, the thread is left with a stack that is gone: the next
    Ctrl-C, or any signal that Python handles, is a segmentation fault. The plugin does not set it again.
    """
    if sys.platform != "linux":
        return
    import ctypes

    class SignalStack(ctypes.Structure):  # stack_t
        _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    # 2: SS_DISABLE
    ctypes.CDLL(None).sigaltstack(ctypes.byref(SignalStack(None, 2, 0)), None)


def set_onednn_cache_capacity(primitives: int) -> None:
    """Let oneDNN keep this many compiled primitives, unless the user has set a number. It is read when OpenVINO's CPU
    plugin is loaded."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(primitives))


@contextmanager
def environment_variables(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or remove those that are None, for the duration of a block. Other threads see them, too."""
    before = {name: os.environ.get(name) for name in changes}
    _set_variables(changes)
    try:
        yield
    finally:
        _set_variables(before)


@contextmanager
def temporary_home() -> Iterator[None]:
    """Give a user without a home folder, as in many containers, that for temporary files during a block."""
    from tempfile import gettempdir

    variable = "USERPROFILE" if os.name == "nt" else "HOME"
    has_home = os.path.expanduser("~") != "~"
    with environment_variables({} if has_home else {variable: gettempdir()}):
        yield


def _set_variables(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


# Logging, progress bars and warnings.

_in_quiet_nncf: ContextVar[bool] = ContextVar("in_quiet_nncf", default=False)


@contextmanager
def quiet_nncf() -> Iterator[None]:
    """Keep NNCF from drawing progress bars and from logging less than errors in this block. Other threads' NNCF calls
    draw and log as ever."""
    with _nncf_patched():
        token = _in_quiet_nncf.set(True)
        try:
            yield
        finally:
            _in_quiet_nncf.reset(token)


@_shared
@contextmanager
def _nncf_patched() -> Iterator[None]:
    """Patch the iteration of NNCF's bars, for which it has no setting, and filter its logger. Both look at the context
    that they run in, so that other threads see no difference."""
    import logging

    from nncf.common.logging.track_progress import track

    logger, draw = logging.getLogger("nncf"), track.__iter__

    def iterate(self: Any) -> Iterator[Any]:
        return iter(self.sequence) if _in_quiet_nncf.get() else draw(self)

    def passes(record: "logging.LogRecord") -> bool:
        return record.levelno >= logging.ERROR or not _in_quiet_nncf.get()

    logger.addFilter(passes)
    track.__iter__ = iterate
    try:
        yield
    finally:
        track.__iter__ = draw
        logger.removeFilter(passes)


@_shared
@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing progress bars and from logging less than errors."""
    from transformers.utils import logging

    drew, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if drew:
            logging.enable_progress_bar()


@contextmanager
def quiet_hub(*, bars: bool) -> Iterator[None]:
    """Keep huggingface_hub from logging each attempt, and, unless `bars`, from drawing progress bars."""
    with ignore_user_warnings(), _quiet_hub_log(), nullcontext() if bars else _no_hub_bars():
        yield


@_shared
@contextmanager
def _quiet_hub_log() -> Iterator[None]:
    logging: Any = import_module("huggingface_hub.utils.logging")
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


@_shared
@contextmanager
def _no_hub_bars() -> Iterator[None]:
    """HF_HUB_DISABLE_PROGRESS_BARS may forbid either call, with a warning."""
    utils: Any = import_module("huggingface_hub.utils")
    drew = not utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if drew:
            utils.enable_progress_bars()


@_shared
@contextmanager
def quiet_logging() -> Iterator[None]:
    """Keep all libraries from logging warnings and less."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def quiet_mcp() -> None:
    """Keep the log of the MCP SDK off standard error where the application has set up no logging; elsewhere it stays as
    it is."""
    import logging

    logger = logging.getLogger("mcp")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


@_shared
@contextmanager
def ignore_user_warnings() -> Iterator[None]:
    """Drop UserWarning and its subclasses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
