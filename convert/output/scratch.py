"""A folder that appears under its name only when it is complete.

Until then it grows beside that name, as `.NAME.partial-PROCESS` (`process_name.py`). After a kill, a power cut, Ctrl-C
or SIGTERM, the next conversion to the same name adopts it, and resumes from it or clears it; any other end of a
conversion removes it. Links in it, or in its place, are removed.
"""

import errno
import os
import shutil
import signal
import stat
import sys
import threading
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from runtime.device.memory import format_bytes
from runtime.errors import ConversionError
from runtime.system.files import is_plain_folder, remove, rename_over
from runtime.system.native_effects import disable_alternate_signal_stack
from runtime.system.process_name import is_alive, is_process_name, process_name
from runtime.system.windows_paths import path_problem

if TYPE_CHECKING:
    import openvino as ov

_XML_BYTES = 16 * 2**20  # more than a graph without its weights
_PROBE_BLOCK = 2**20
_LONGEST_NAME = 80  # characters that a scratch folder's name and a file in it add to the target's path
_MIN_RESUMABLE_BYTES = 2**28  # less is soon done again after Ctrl-C


@dataclass(frozen=True, slots=True)
class ScratchFolder:
    """The folder `path` that becomes `target`. It keeps the exceptions of signals, which a library may swallow."""

    path: Path
    target: Path
    _raised: list[BaseException] = field(default_factory=list)

    def raise_pending_signal(self) -> None:
        """Raise the exception of a signal that has arrived, and disable the alternate stack for those to come."""
        disable_alternate_signal_stack()
        if self._raised:
            raise self._raised[0]

    def publish(self) -> None:
        """Flush the folder to the disk and rename it. Raise ConversionError if `target` has appeared."""
        self.raise_pending_signal()
        for path in self.path.iterdir():
            if not path.is_symlink():  # to a file of somebody else's
                _sync(path)
        _sync_folder(self.path)
        refuse_existing(self.target)
        try:
            rename_over(self.path, self.target)
        except OSError as exc:
            refuse_existing(self.target)
            raise exc
        _sync_folder(self.target.parent)

    def adopt(self, left: Path, names: Container[str]) -> None:
        """Adopt files of these names from an interrupted conversion's folder, unless there are files already; remove
        the rest of `left`."""
        if not any(self.path.iterdir()):
            _move_files(left, self.path, names)
        remove(left)
        for file in self.path.iterdir():
            status = file.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # writing to it would change another file
                remove(file)

    def clear(self, but: Container[str] = ()) -> None:
        """Remove everything in the folder but these names."""
        for path in self.path.iterdir():
            if path.name not in but:
                remove(path)

    def size(self) -> int:
        """Return the bytes on the disk; a sparse file counts by its blocks."""
        found = map(os.lstat, self.path.iterdir())
        return sum(getattr(status, "st_blocks", status.st_size // 512) * 512 for status in found)


@contextmanager
def scratch_folder(target: Path, resumed: Container[str] = ()) -> Iterator[ScratchFolder]:
    """Create the scratch folder of `target`, with the files `resumed` of an interrupted conversion. It is removed at
    the end unless it was published; after a signal it stays for the next conversion if much of it is finished.

    Raises ConversionError where `target` exists or another process is making it.
    """
    refuse_existing(target)
    if not target.parent.is_dir():
        raise ConversionError(f"there is no folder {str(target.parent)!r}", hint="create it first")
    if sys.platform == "win32":
        refuse_impossible(target)
    own = target.parent / (_scratch_prefix(target) + process_name(os.getpid()))
    busy = ConversionError(f"{str(target)!r} is being converted already", hint="wait for it, or choose another folder")
    try:
        own.mkdir()
    except FileExistsError:
        raise busy from None
    place, keep = ScratchFolder(own, target), False
    try:
        with _signals_raise(place):
            # Two that start at once both see each other here, and both give up.
            others = list(_other_scratch_folders(own, target))
            if any(map(_is_alive, others)):
                raise busy
            for other in others:
                place.adopt(other, resumed)
            yield place
    except (KeyboardInterrupt, SystemExit) as exc:
        done = place.size() if own.is_dir() else 0
        if keep := done >= _MIN_RESUMABLE_BYTES:
            exc.add_note(f"{format_bytes(done)} are finished, and the same conversion resumes from there")
        raise
    finally:
        if not keep:
            shutil.rmtree(own, ignore_errors=True)


def save_ir(model: "ov.Model", path: Path) -> None:
    """Save a graph as `path`, which ends in .xml, and its weights beside it. Raise OSError if the disk is full."""
    import openvino as ov

    weights = sum(op.get_byte_size() for op in model.get_ops() if op.get_type_name() == "Constant")
    with raise_if_disk_full(path, weights):
        ov.save_model(model, str(path), compress_to_fp16=False)


@contextmanager
def raise_if_disk_full(path: Path, weights: int = 0) -> Iterator[None]:
    """Raise OSError with the reason if OpenVINO's serializer fails and the disk has no room for a graph with so many
    bytes of weights. The serializer gives no reason for a failed write and deletes its output."""
    try:
        yield
    except RuntimeError as exc:
        probe = path.with_suffix(".probe")
        try:
            with probe.open("xb") as file:
                for _ in range(0, weights + _XML_BYTES, _PROBE_BLOCK):
                    file.write(bytes(_PROBE_BLOCK))
        except OSError as reason:
            raise OSError(reason.errno, reason.strerror, str(path)) from exc
        finally:
            probe.unlink(missing_ok=True)
        raise


def refuse_existing(target: Path) -> None:
    """Raise ConversionError if there is something at `target`, a dangling link included."""
    if os.path.lexists(target):
        raise ConversionError(f"{str(target)!r} exists already", hint="choose another folder, or remove that one")


def refuse_impossible(target: Path) -> None:
    """Raise ConversionError if Windows could not have the folder, or would not find its files."""
    if problem := path_problem(target.absolute(), _LONGEST_NAME):
        raise ConversionError(f"{str(target)!r}: {problem}", hint="choose another name, such as C:\\models\\glm4-int4")


def _scratch_prefix(target: Path) -> str:
    """Return the prefix of the scratch folder's name; the process's name follows it."""
    return f".{target.name}.partial-"


def _other_scratch_folders(own: Path, target: Path) -> Iterator[Path]:
    """Yield the folders of other conversions to `target`, running or interrupted. Remove links of such names."""
    before = _scratch_prefix(target)
    for path in sorted(target.parent.iterdir()):
        if path == own or not path.name.startswith(before) or not is_process_name(path.name.removeprefix(before)):
            continue
        if is_plain_folder(path):
            yield path
        elif path.is_symlink():
            remove(path)


def _move_files(source: Path, to: Path, names: Container[str]) -> None:
    """Move the files of a folder, opened so that a link in its place is not followed."""
    if sys.platform == "win32" or os.rename not in os.supports_dir_fd:
        for path in source.iterdir():
            if path.name in names:
                path.rename(to / path.name)
        return
    opened = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for name in os.listdir(opened):
            if name in names:
                os.rename(name, to / name, src_dir_fd=opened)
    finally:
        os.close(opened)


def _is_alive(folder: Path) -> bool:
    """Return whether the process that made the folder still runs."""
    return is_alive(folder.name.rpartition(".partial-")[2])


def _sync(path: Path) -> None:
    if sys.platform == "win32":
        flags = os.O_RDWR | os.O_BINARY
    else:
        flags = os.O_RDONLY | os.O_NOFOLLOW
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    """Bring a folder's entries to the disk. Many file systems cannot (CIFS, vboxsf, WSL: EINVAL or EIO; Windows opens
    none), and its files are there by then: only a full disk is an error."""
    try:
        _sync(path)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise


@contextmanager
def _signals_raise(place: ScratchFolder) -> Iterator[None]:
    """Raise KeyboardInterrupt for Ctrl-C, and SystemExit for SIGTERM and a closed terminal, which by default end a
    process at once. Signals that the application handles are left to it.

    Native code that calls back into Python may replace a handler's exception by an error of its own; the handler's is
    then raised instead.
    """

    def handle(number: int, _: FrameType | None) -> None:
        place._raised.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number))
        place.raise_pending_signal()

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [
            getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
        ]
        defaults = (signal.SIG_DFL, signal.default_int_handler)
        before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) in defaults}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    except Exception as exc:
        if place._raised:
            raise place._raised[0] from exc
        raise
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
