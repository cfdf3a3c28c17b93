"""A folder that appears under its name only when it is complete.

Until then it grows beside that name, as `.NAME.partial-PROCESS`, which names its owner (`process_name.py`). What a
kill, a power cut, Ctrl-C or SIGTERM has left of it is handed to the next conversion to that name, which goes on from
there or clears it; whatever else ends a conversion removes it. A link in what was left, or in its place, is removed.
"""

import errno
import os
import shutil
import signal
import stat
import threading
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from runtime.device.memory import format_bytes
from runtime.errors import ConversionError
from runtime.system.files import is_plain_folder, remove
from runtime.system.native_effects import disable_alternate_signal_stack
from runtime.system.process_name import is_alive, is_process_name, process_name

if TYPE_CHECKING:
    import openvino as ov

_XML = 16 * 2**20  # bytes that a graph without its weights never reaches
_PROBED_AT_ONCE = 2**20  # bytes
_WORTH_KEEPING = 2**28  # bytes of what Ctrl-C cut short: less is soon done again


@dataclass(frozen=True, slots=True)
class Scratch:
    """The folder `path`, to be `target`. What signals raised is remembered, since a library may swallow it."""

    path: Path
    target: Path
    _raised: list[BaseException] = field(default_factory=list)

    def check(self) -> None:
        """Raises what a signal raised; those to come find a stack."""
        disable_alternate_signal_stack()
        if self._raised:
            raise self._raised[0]

    def publish(self) -> None:
        """Brings the folder to the disk and renames it. Raises ConversionError where `target` has appeared."""
        self.check()
        for path in self.path.iterdir():
            _sync(path)
        _sync_folder(self.path)
        refuse_existing(self.target)
        try:
            self.path.rename(self.target)
        except OSError as exc:
            refuse_existing(self.target)
            raise exc
        _sync_folder(self.target.parent)

    def adopt(self, left: Path, names: Container[str]) -> None:
        """Take over the files of these names that another conversion has left, unless there are some already. The rest
        of `left` is removed."""
        if not any(self.path.iterdir()):
            _move_files(left, self.path, names)
        remove(left)
        for file in self.path.iterdir():
            status = file.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # to write to it would change another file
                remove(file)

    def clear(self, but: Container[str] = ()) -> None:
        """Removes all that is in it, but for these names."""
        for path in self.path.iterdir():
            if path.name not in but:
                remove(path)

    def size(self) -> int:
        """Bytes on the disk; a file that is not filled yet counts by what is in it."""
        found = map(os.lstat, self.path.iterdir())
        return sum(getattr(status, "st_blocks", status.st_size // 512) * 512 for status in found)


@contextmanager
def scratch(target: Path, resumed: Container[str] = ()) -> Iterator[Scratch]:
    """A folder to fill, with what a conversion to `target` that was cut short has left of the files `resumed`. It is
    removed on the way out if it was not published; where a signal leads out, and much is done, it stays for the next.

    Raises ConversionError where `target` exists or another process is making it.
    """
    refuse_existing(target)
    if not target.parent.is_dir():
        raise ConversionError(f"there is no folder {str(target.parent)!r}", hint="make it first")
    own = target.parent / (_before(target) + process_name(os.getpid()))
    busy = ConversionError(f"{str(target)!r} is being converted already", hint="wait for it, or choose another folder")
    try:
        own.mkdir()
    except FileExistsError:
        raise busy from None
    place, keep = Scratch(own, target), False
    try:
        with _terminated_in_order(place):
            # Two that start at once both see the other here, and both give way.
            others = list(_others(own, target))
            if any(map(_is_alive, others)):
                raise busy
            for other in others:
                place.adopt(other, resumed)
            yield place
    except (KeyboardInterrupt, SystemExit) as exc:
        done = place.size() if own.is_dir() else 0
        if keep := done >= _WORTH_KEEPING:
            exc.add_note(f"{format_bytes(done)} are finished, and the same conversion goes on from there")
        raise
    finally:
        if not keep:
            shutil.rmtree(own, ignore_errors=True)


def save_ir(model: "ov.Model", path: Path) -> None:
    """Saves a graph as `path`, which ends in .xml, and its weights beside it. Raises OSError where the disk is full."""
    import openvino as ov

    weights = sum(op.get_byte_size() for op in model.get_ops() if op.get_type_name() == "Constant")
    with full_disk_told(path, weights):
        ov.save_model(model, str(path), compress_to_fp16=False)


@contextmanager
def full_disk_told(path: Path, weights: int = 0) -> Iterator[None]:
    """Raise OSError with the reason where OpenVINO's serialiser fails and no file with a graph and weights of so many
    bytes can be written there: the serialiser gives no reason, and removes what it wrote."""
    try:
        yield
    except RuntimeError as exc:
        probe = path.with_suffix(".probe")
        try:
            with probe.open("xb") as file:
                for _ in range(0, weights + _XML, _PROBED_AT_ONCE):
                    file.write(bytes(_PROBED_AT_ONCE))
        except OSError as reason:
            raise OSError(reason.errno, reason.strerror, str(path)) from exc
        finally:
            probe.unlink(missing_ok=True)
        raise


def refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise ConversionError(f"{str(target)!r} exists already", hint="choose another folder, or remove that one")


def _before(target: Path) -> str:
    """The prefix of the scratch folder's name; the process's name follows it."""
    return f".{target.name}.partial-"


def _others(own: Path, target: Path) -> Iterator[Path]:
    """The folders of other conversions to `target`, running or cut short. A link of such a name is removed."""
    before = _before(target)
    for path in sorted(target.parent.iterdir()):
        if path == own or not path.name.startswith(before) or not is_process_name(path.name.removeprefix(before)):
            continue
        if is_plain_folder(path):
            yield path
        elif path.is_symlink():
            remove(path)


def _move_files(source: Path, to: Path, names: Container[str]) -> None:
    """Move the files of a folder, which is opened so that a link put in its place is not followed."""
    if os.rename not in os.supports_dir_fd:
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
    flags = os.O_RDONLY | os.O_NOFOLLOW if os.name != "nt" else os.O_RDWR | getattr(os, "O_BINARY", 0)
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
def _terminated_in_order(place: Scratch) -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt; SIGTERM and a closed terminal, which by default end a process on the spot, raise
    SystemExit; each unless it is handled already.

    Native code that calls back into Python may turn what a handler raises into an error of its own; then the handler's
    is raised in its place.
    """

    def handle(number: int, _: FrameType | None) -> None:
        place._raised.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number))
        place.check()

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
        if place._raised:
            raise place._raised[0] from exc
        raise
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
