"""`edge serve --exit-with-parent`: the server ends with the program that started it."""

import _thread
import os
import signal
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

_POLL = 0.5  # seconds


def exit_with_parent() -> None:
    """End this process in order, as SIGTERM does, once its parent has ended or standard input is closed. Standard
    input counts only if it is a pipe or a socket."""
    parent = os.getppid()  # on Windows perhaps python.exe of a virtual environment, which starts the real one
    if _is_pipe(0):
        Thread(target=_watch_stdin, name="stdin", daemon=True).start()
    Thread(target=_watch_parent, args=(parent,), name="parent", daemon=True).start()


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _watch_stdin() -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    _terminate()


def _watch_parent(parent: int) -> None:
    import psutil  # type: ignore[import-untyped]

    with suppress(psutil.Error):
        process = _starter(psutil.Process(parent), _launchers())
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and os.getppid() == parent:
            time.sleep(_POLL)
    _terminate()


def _launchers() -> Path | None:
    """Return the folder of the programs that start a virtual environment's Python on Windows; None elsewhere."""
    in_environment = sys.platform == "win32" and sys.prefix != sys.base_prefix
    return Path(sys.executable).parent if in_environment else None


def _starter(parent: Any, launchers: Path | None) -> Any:
    """Return the process that started this one: on Windows not python.exe or edge.exe of our virtual environment, which
    wait for this process to end."""
    import psutil

    with suppress(psutil.Error):
        while launchers is not None and Path(parent.exe()).parent == launchers and (above := parent.parent()):
            parent = above
    return parent


def _terminate() -> None:
    while True:  # Windows ignores it while a model loads
        if sys.platform == "win32":
            _thread.interrupt_main(signal.SIGTERM)
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_POLL if sys.platform == "win32" else 60)
