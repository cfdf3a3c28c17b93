"""Landlock: of all files, a process may read some and write in one folder.

What a file is called, how large it is and when it changed can still be found out; namespaces hide that as well.
"""

import os
import struct
from collections.abc import Iterable, Sequence
from ctypes import create_string_buffer

from .system_calls import call, prctl

REQUIRED = 3  # the version of Linux 6.2, which checks truncation, too
_WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 1, 1 << 2, 1 << 3
_OF_FILES = 1 << 0 | _WRITE_FILE | _READ_FILE | 1 << 14 | 1 << 15
_RIGHTS = {3: 15, 5: 16}  # how many kinds of access to files a version knows
_VERSION, _BENEATH, _NO_NEW_PRIVILEGES = 1, 1, 38


def version() -> int:
    """Return the version that the kernel offers, 0 for none."""
    try:
        return call("landlock_create_ruleset", None, 0, _VERSION)
    except OSError:
        return 0


def restrict(readable: Iterable[str], writable: Sequence[str]) -> None:
    """Restrict this process from now on to reading these files and folders, and to its `writable` ones. Raises
    OSError."""
    offered = version()
    every = (1 << max(count for least, count in _RIGHTS.items() if offered >= least)) - 1
    network, scopes = (3 if offered >= 4 else 0), (3 if offered >= 6 else 0)
    rules = struct.pack("=QQQ", every, network, scopes)[: 24 if offered >= 6 else 16 if offered >= 4 else 8]
    rule_set = call("landlock_create_ruleset", create_string_buffer(rules, len(rules)), len(rules), 0)
    try:
        for paths, rights in ((readable, _READ_FILE | _READ_FOLDER), (writable, every)):
            for path in paths:
                _allow(rule_set, path, rights)
        prctl(_NO_NEW_PRIVILEGES, 1)
        call("landlock_restrict_self", rule_set, 0)
    finally:
        os.close(rule_set)


def _allow(rule_set: int, path: str, rights: int) -> None:
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)  # type: ignore[attr-defined,unused-ignore]
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, file)
        call("landlock_add_rule", rule_set, _BENEATH, create_string_buffer(rule, len(rule)), 0)
    finally:
        os.close(file)
