"""Namespaces: a process that sees no other process, no network, and of all files only those that it may read."""

import os
import struct
import sys
from collections.abc import Iterable, Sequence
from ctypes import create_string_buffer
from pathlib import Path

from .system_calls import call

_NEW_MOUNTS, _NEW_NAMES, _NEW_IPC, _NEW_USERS, _NEW_PROCESSES, _NEW_NETWORK = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE, _DETACH = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
    2,
)
_HERE, _TO_ALL_BELOW = -100, 0x8000  # AT_FDCWD, AT_RECURSIVE
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
WORK = "/mnt/data"  # the folder that GLM-4 knows from its training


def enter(folder: str, readable: Iterable[str], *, work_bytes: int, user: int | None) -> None:
    """Move this process, which has one thread, into namespaces of its own: its root is `folder`, with the readable
    files and WORK, which is empty and holds `work_bytes`. Its children see no other processes. `user` is the one that
    they will run as, for the superuser; None leaves it. Raises OSError."""
    if sys.platform != "linux":
        return
    own, group = os.getuid(), os.getgid()
    spaces = _NEW_MOUNTS | _NEW_NAMES | _NEW_IPC | _NEW_PROCESSES | _NEW_NETWORK
    call("unshare", spaces if user is not None else spaces | _NEW_USERS)
    if user is None:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{own} {own} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _mount("none", "/", "", _RECURSIVE | _PRIVATE)
    _mount("tmpfs", folder, "tmpfs", _NO_SUID | _NO_DEVICES, "size=1m,mode=755")
    for path in _outermost(readable):
        _show(path, folder + path)
    for path in DEVICES:
        _show(path, folder + path, _NO_SUID | _NO_EXEC)
    os.makedirs(folder + WORK)
    owner = f",uid={user},gid={user}" if user is not None else ""
    options = f"size={work_bytes},nr_inodes=4096,mode=700{owner}"
    _mount("tmpfs", folder + WORK, "tmpfs", _NO_SUID | _NO_DEVICES | _NO_EXEC, options)
    os.chdir(folder)
    call("pivot_root", b".", b".")
    call("umount2", b".", _DETACH)
    _mount("", "/", "", _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES)
    os.chdir(WORK)


def _show(path: str, at: str, more: int = _NO_SUID | _NO_DEVICES) -> None:
    """Show a file or folder with all below it, read-only, and leave a link a link."""
    if os.path.isdir(path):
        os.makedirs(at, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(at), exist_ok=True)
        Path(at).touch()
    _mount(path, at, "", _BIND | _RECURSIVE)
    settings = struct.pack("=QQQQ", _READ_ONLY | more, 0, 0, 0)
    call(
        "mount_setattr", _HERE, os.fsencode(at), _TO_ALL_BELOW, create_string_buffer(settings, len(settings)), 32
    )  # the attributes' numbers are those of the flags


def _outermost(paths: Iterable[str]) -> Sequence[str]:
    """Return the paths that exist and are not below another one."""
    found: list[str] = []
    for path in sorted({os.path.normpath(path) for path in paths if os.path.exists(path)}):
        if not any(path == one or path.startswith(f"{one}/") for one in found):
            found.append(path)
    return found


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    assert sys.platform == "linux"
    call("mount", source.encode(), os.fsencode(target), kind.encode() or None, flags, options.encode() or None)
