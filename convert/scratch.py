"""A folder that appears under its name only when it is complete.

Until then it grows beside that name, as `.NAME.partial-PID-START`: process id and start time of its owner. Whatever
ends the conversion removes it, but for a kill or a power cut; then the next conversion to that name does.
"""

import errno
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from runtime.errors import ConversionError

if TYPE_CHECKING:
    import openvino as ov

_XML = 16 * 2**20  # bytes that a graph without its weights never reaches
_raised: list[BaseException] = []  # by the signals of this conversion
_CLOCK_STEP = 60  # seconds by which a process's start time, told from the wall clock, may seem to change


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """An empty folder to fill, for `publish` to put in its place; removed on the way out if it was not published.

    Raises ConversionError where `target` exists or another process is making it.
    """
    import psutil  # type: ignore[import-untyped]

    refuse_existing(target)
    if not target.parent.is_dir():
        raise ConversionError(f"there is no folder {str(target.parent)!r}", hint="make it first")
    own = target.parent / f".{target.name}.partial-{os.getpid()}-{int(psutil.Process().create_time())}"
    busy = ConversionError(f"{str(target)!r} is being converted already", hint="wait for it, or choose another folder")
    try:
        own.mkdir()
    except FileExistsError:
        raise busy from None
    try:
        with _terminated_in_order():
            # Two that start at once both see the other here, and both give way.
            for other in _others(own, target):
                if _is_alive(other):
                    raise busy
                shutil.rmtree(other, ignore_errors=True)
            yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def save_ir(model: "ov.Model", path: Path) -> None:
    """Saves a graph as `path`, which ends in .xml, and its weights beside it. Raises OSError where the disk is full."""
    import openvino as ov

    try:
        ov.save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError as exc:  # it does not tell why, and has removed what it wrote
        weights = sum(op.get_byte_size() for op in model.get_ops() if op.get_type_name() == "Constant")
        if shutil.disk_usage(path.parent).free < weights + _XML:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from exc
        raise


def publish(folder: Path, target: Path) -> None:
    """Brings the folder to the disk and renames it. Raises ConversionError where `target` has appeared meanwhile, and
    what a signal raised before and some library has swallowed."""
    if _raised:
        raise _raised[0]
    for path in (*folder.iterdir(), folder):
        _sync(path)
    refuse_existing(target)
    try:
        folder.rename(target)
    except OSError as exc:
        refuse_existing(target)
        raise exc
    _sync(target.parent)


def refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise ConversionError(f"{str(target)!r} exists already", hint="choose another folder, or remove that one")


def _others(own: Path, target: Path) -> Iterator[Path]:
    pattern = re.compile(re.escape(f".{target.name}.partial-") + r"\d+-\d+")
    for path in sorted(target.parent.iterdir()):
        if path != own and pattern.fullmatch(path.name):
            yield path


def _is_alive(folder: Path) -> bool:
    import psutil

    pid, start = (int(number) for number in folder.name.split("-")[-2:])
    try:
        return bool(abs(psutil.Process(pid).create_time() - start) <= _CLOCK_STEP)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt; SIGTERM and a closed terminal, which by default end a process on the spot, raise
    SystemExit; each unless it is handled already.

    Native code that calls back into Python may turn what a handler raises into an error of its own; then the handler's
    is raised in its place.
    """
    _raised.clear()

    def handle(number: int, _: FrameType | None) -> None:
        _raised.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number))
        raise _raised[0]

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        defaults = (signal.SIG_DFL, signal.default_int_handler)
        before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) in defaults}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    except Exception as exc:
        if _raised:
            raise _raised[0] from exc
        raise
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
        _raised.clear()
