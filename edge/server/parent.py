"""Ending with the program that started the server (`edge serve --exit-with-parent`)."""

import _thread
import os
import signal
import stat
import sys
import time
from contextlib import suppress
from threading import Thread

_LOOK = 0.5  # seconds


def exit_with_parent() -> None:
    """Ends this process in order, as SIGTERM does, once standard input is closed or the parent has ended. Standard
    input counts where it is a pipe or a socket: a parent that has none to give is watched alone."""
    parent = os.getppid()
    if _is_pipe(0):
        Thread(target=_read_to_end, name="stdin", daemon=True).start()
    Thread(target=_wait_for, args=(parent,), name="parent", daemon=True).start()


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _read_to_end() -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    _end()


def _wait_for(parent: int) -> None:
    import psutil  # type: ignore[import-untyped]

    with suppress(psutil.Error):
        process = psutil.Process(parent)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and os.getppid() == parent:
            time.sleep(_LOOK)
    _end()


def _end() -> None:
    while True:  # on Windows it goes unheard while the model is loaded
        if sys.platform == "win32":
            _thread.interrupt_main(signal.SIGTERM)
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_LOOK if sys.platform == "win32" else 60)
