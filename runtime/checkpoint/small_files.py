"""The small files of a checkpoint, which come from anybody: regular ones alone, and bounded.

What is copied as it is, or shown, must not be a link out of the checkpoint: it could lead to a private key. In the
hub's cache a checkpoint is a folder of links into `blobs` beside it, so those are followed. JSON may be anywhere: what
is no tokenizer or config.json goes no further.
"""

import errno
import stat
from pathlib import Path

from ..errors import CheckpointError
from ..system.files import read_bounded
from ..text import one_line

UNREADABLE_HINT = "check the disk that it is on, and copy or download the checkpoint again"
_DOWNLOAD_HINT = "download the checkpoint again"
MAX_BYTES = 1 << 28  # bytes; GLM-4's tokenizer.json has 20 MB
MAX_LICENCE_BYTES = 1 << 20
_MAX_README_BYTES = 1 << 24


def resolve_file(folder: Path, name: str, *, within: bool = False) -> Path | None:
    """The file that name stands for, links followed; None where there is none. Raises CheckpointError for what is
    neither a file nor a folder, and for a link that leads out of the checkpoint where the file has to be `within`."""
    path = folder / name
    try:
        found = path.resolve()
        if within and not _is_inside(found, folder.resolve()):
            raise CheckpointError(
                f"{one_line(name)} is a link out of the checkpoint, to {one_line(found)}",
                hint="put the file itself there, or remove it",
            )
        mode = found.stat().st_mode
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as exc:  # a loop of links
        raise CheckpointError(
            f"{one_line(name)} cannot be read: {os_error_reason(exc)}", hint=os_error_cure(exc)
        ) from exc
    if stat.S_ISDIR(mode):
        return None
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{one_line(name)} is no regular file", hint=_DOWNLOAD_HINT)
    return found


def read_file(folder: Path, name: str, limit: int = MAX_BYTES, *, within: bool = False) -> bytes | None:
    """What the file holds; None where there is none. Raises CheckpointError, as `resolve_file` and where it has more
    than `limit` bytes."""
    path = resolve_file(folder, name, within=within)
    try:
        return None if path is None else read_bounded(path, limit)
    except OSError as exc:
        raise CheckpointError(
            f"{one_line(name)} cannot be read: {os_error_reason(exc)}", hint=os_error_cure(exc)
        ) from exc


def read_licence(folder: Path) -> tuple[bytes, bool]:
    """The model card, b"" where there is none, and whether there is a LICENSE. Raises CheckpointError."""
    return read_file(folder, "README.md", _MAX_README_BYTES, within=True) or b"", resolve_file(
        folder, "LICENSE", within=True
    ) is not None


def os_error_cure(exc: Exception) -> str:
    """What to do about a file that cannot be read."""
    return UNREADABLE_HINT if getattr(exc, "errno", None) == errno.EIO else "check its path and its permissions"


def os_error_reason(exc: Exception) -> str:
    return one_line(getattr(exc, "strerror", None) or exc)


def _is_inside(path: Path, folder: Path) -> bool:
    if path.is_relative_to(folder):
        return True
    entry = folder.parent.parent  # models--zai-org--GLM-4-9B-0414/snapshots/COMMIT
    return (
        folder.parent.name == "snapshots" and entry.name.startswith("models--") and path.is_relative_to(entry / "blobs")
    )
