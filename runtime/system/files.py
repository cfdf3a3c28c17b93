"""Files and folders: reading with a limit, writing atomically, removing without following links."""

import errno
import mmap
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_is_junction: Callable[[Path], bool] = getattr(os.path, "isjunction", lambda _: False)  # Windows, from Python 3.12 on

TEMPORARY_FOLDER_HINT = "make room in the folder for temporary files, or set TMPDIR to a folder on another disk"

# Windows renames nothing that another program has open, and virus scanners open what has just been written.
_RENAME_SECONDS = 10.0 if sys.platform == "win32" else 0.0
_RENAME_STEP = 0.1  # seconds

# Errors of mmap(2) on file systems that do not support mappings; NFS, 9p and FUSE differ.
UNMAPPABLE_ERRNOS = (errno.ENODEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Return the path with a leading `~` expanded. It stays if there is no such home folder: a folder may be called ~x,
    and a user may have no home."""
    return Path(os.path.expanduser(path))


def write_atomically(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file so that it appears complete or not at all, for its owner alone if it is `private`. A link is
    replaced, not followed.

    Raises OSError, also if `path` is a folder or a device.
    """
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):  # /dev/stdout is a link
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        opener = _open_private if private else None
        with open(scratch, "xb", opener=opener) as file:  # "x" follows no link
            file.write(data)
        rename_over(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def rename_over(source: Path, target: Path) -> None:
    """Rename a file over another, or a folder to a new name. On Windows, wait for programs that have it open. Raises
    OSError."""
    end = time.monotonic() + _RENAME_SECONDS
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if time.monotonic() >= end:
                raise
            time.sleep(_RENAME_STEP)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def name_in_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add the file's name to an OSError of reading or writing it, which lacks one."""
    try:
        yield
    except OSError as exc:
        if exc.filename is None and exc.errno is not None:
            raise OSError(exc.errno, exc.strerror, os.fspath(path)) from exc
        raise


def is_temporary_folder_missing(exc: Exception) -> bool:
    """Return whether this is the error of `tempfile` if no folder can be written to, usually as disks are full."""
    return isinstance(exc, FileNotFoundError) and "usable temporary directory" in str(exc)


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file; links are followed.

    Raises OSError, also for a folder, for a FIFO or a device, which could block or never end, and for more than `limit`
    bytes.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    with name_in_errors(path), path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return data


def is_plain_file(path: Path) -> bool:
    """Return whether `path` is a regular file itself: not a link, nor a FIFO, which would block."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def is_plain_folder(path: Path) -> bool:
    """Return whether `path` is a folder itself: not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode) and not _is_junction(path)
    except OSError:
        return False


def remove(path: Path) -> None:
    """Remove a file, a folder with its content, or a link, but never a link's target. Ignores what cannot be
    removed."""
    if is_plain_folder(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def folder_bytes(path: Path) -> int:
    """Return the bytes of the regular files below a folder. Links are not followed; what cannot be read counts
    nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def read_model_properties(path: Path) -> dict[str, bool]:
    """Return OpenVINO's property for reading the IR at `path`. It maps weights by default, and fails if it cannot."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
            return {}
    except OSError as exc:
        return {"ENABLE_MMAP": False} if exc.errno in UNMAPPABLE_ERRNOS else {}
    except ValueError:  # an empty file
        return {}
