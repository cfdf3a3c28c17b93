"""Confine this process: by namespaces, by Landlock, or not at all; then check that it is confined.

In every confined process a filter of system calls (`seccomp`) forbids sockets and further processes, and limits bound
memory, files and threads.
"""

import errno
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import landlock, namespaces, seccomp, system_calls

NOBODY = 65534
_THREADS = 64
_PARENT_DEATH_SIGNAL = 1
_OPEN_FILES = 64
_BOUNDING, _DROP_BOUNDING, _CAPABILITIES = range(64), 24, 0x20080522


@dataclass(frozen=True, slots=True)
class Confinement:
    """How a process is confined. `how` is "namespaces", "landlock" or "none"; `folder` has `root`, an empty folder,
    `work`, the process's own, and `outside`, a file that it must not read. It may read the files and folders
    `readable`. The limits are in bytes."""

    how: str
    folder: str
    readable: tuple[str, ...]
    memory_bytes: int
    file_bytes: int

    @property
    def work(self) -> str:
        """The process's own folder, as it sees it itself."""
        return work_folder(self.how, self.folder)


def work_folder(how: str, folder: str) -> str:
    """Return the process's own folder, as it sees it itself."""
    return namespaces.WORK if how == "namespaces" else os.path.join(folder, "work")


class Unconfined(Exception):
    """The reason why the process cannot be confined."""


def prepare(confinement: Confinement) -> None:
    """Confine what this process, which has one thread, and its child have in common. Raises Unconfined."""
    _limit(confinement)
    if confinement.how == "none":
        os.chdir(confinement.work)
    elif sys.platform == "linux":
        _prepare(confinement)
    else:
        raise Unconfined("processes can be confined on Linux alone")


def restrict(confinement: Confinement) -> None:
    """Restrict this process for good. Raises Unconfined."""
    if confinement.how == "none" or sys.platform != "linux":
        return
    user = _other_user()
    try:
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            system_calls.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)  # a change of user clears it
        _drop_capabilities()
        if confinement.how == "landlock":
            landlock.restrict((*confinement.readable, *namespaces.DEVICES), (confinement.work,))
        seccomp.restrict(metadata=confinement.how == "namespaces")
    except OSError as exc:
        raise Unconfined(f"the kernel refuses it ({exc.strerror or exc})") from exc
    for problem in _open_ways(os.path.join(confinement.folder, "outside")):
        raise Unconfined(problem)


def _prepare(confinement: Confinement) -> None:
    if sys.platform != "linux":
        return
    if not system_calls.architecture():
        raise Unconfined("no filter of system calls is known for this processor")
    user = _other_user()
    if confinement.how == "landlock":
        if landlock.version() < landlock.REQUIRED:
            raise Unconfined("the kernel has no Landlock of Linux 6.2 or later")
        if user is not None and not all(map(_is_public, confinement.readable)):
            raise Unconfined("only the superuser can read this Python's files")
        if user is not None:
            os.chown(confinement.work, user, user)
            os.chmod(confinement.folder, 0o711)  # noqa: S103
        os.chdir(confinement.work)
        return
    root = os.path.join(confinement.folder, "root")
    try:
        namespaces.enter(root, confinement.readable, work_bytes=confinement.file_bytes, user=user)
    except OSError as exc:
        raise Unconfined(f"namespaces are not available ({exc.strerror or exc})") from exc


def _other_user() -> int | None:
    return NOBODY if sys.platform != "win32" and os.geteuid() == 0 else None


def _is_public(path: str) -> bool:
    """Whether every user can read a file or folder."""
    with suppress(FileNotFoundError):
        found = Path(path).resolve()
        return bool(found.stat().st_mode & stat.S_IROTH) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in found.parents
        )
    return True


def _limit(confinement: Confinement) -> None:
    if sys.platform == "win32":
        return
    import resource

    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, confinement.file_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ]
    if sys.platform == "linux":
        user = _other_user()
        limits.append((resource.RLIMIT_AS, confinement.memory_bytes))
        limits.append((resource.RLIMIT_NPROC, _count_threads(os.getuid() if user is None else user) + _THREADS))
    for kind, value in limits:
        _, hard = resource.getrlimit(kind)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))


def _count_threads(user: int) -> int:
    """Count the threads of a user, which the kernel compares with the limit; where there is no /proc, none."""
    count = 0
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if path.stat().st_uid == user:
                count += len(os.listdir(path / "task"))
    return count


def _drop_capabilities() -> None:
    for one in _BOUNDING:
        try:
            system_calls.prctl(_DROP_BOUNDING, one)
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.EPERM):  # there are fewer, or the user has none
                raise
    from ctypes import create_string_buffer

    header = _CAPABILITIES.to_bytes(4, "little") + bytes(4)
    system_calls.call("capset", create_string_buffer(header, 8), create_string_buffer(bytes(24), 24))


def _open_ways(outside: str) -> Iterator[str]:
    """Yield what the process can do although it must not."""
    with suppress(OSError), socket.socket():
        yield "sockets are still allowed"
    with suppress(OSError):
        if sys.platform != "win32" and os.fork() == 0:
            os._exit(0)
        yield "processes are still allowed"
    for path in (outside, "/etc/passwd"):
        with suppress(OSError), open(path, "rb"):
            yield "other files can still be read"
    for folder in ("/", "/tmp", os.path.dirname(outside)):  # noqa: S108
        name = os.path.join(folder, f"edge-{os.getpid()}")
        with suppress(OSError), open(name, "xb"):
            os.unlink(name)
            yield "other files can still be written"


def readable_paths(module_paths: Sequence[str]) -> tuple[str, ...]:
    """Return what a Python process reads: the folders of its modules, libraries, fonts and time zones."""
    import sysconfig

    prefixes = {sys.base_prefix, sys.prefix} - {"/usr", "/usr/local", "/"}
    paths = sysconfig.get_paths()
    return (
        *module_paths,
        paths["stdlib"],
        paths["platstdlib"],
        *(os.path.join(prefix, "lib") for prefix in prefixes),
        *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"),
        *("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/localtime"),
        *("/usr/share/fonts", "/usr/local/share/fonts", "/usr/share/zoneinfo"),
    )
