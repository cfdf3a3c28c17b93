"""Small files of a checkpoint, which may come from anyone: only regular files are read, up to a maximum size.

A file that is copied or shown must not be a link out of the checkpoint, which could lead to a private key. In the hub's
cache a checkpoint is a folder of links into the `blobs` folder next to it; those are followed. JSON files may be links
to anywhere: a file that is not a valid configuration is not used.
"""

import errno
import stat
from pathlib import Path
from typing import Any

from ... import strict_json
from ...errors import CheckpointError
from ...system.files import read_bounded
from ...text import one_line

DOWNLOAD_AGAIN = "the file is damaged or its download was cut short: download it again"
UNREADABLE_HINT = "check the disk that it is on, and copy or download the checkpoint again"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_DOWNLOAD_HINT = "download the checkpoint again"
MAX_BYTES = 1 << 28  # bytes; GLM-4's tokenizer.json has 20 MB
MAX_LICENCE_BYTES = 1 << 20
_MAX_README_BYTES = 1 << 24


def resolve_file(folder: Path, name: str, *, within: bool = False) -> Path | None:
    """Return the file called `name` with links resolved, or None if there is none.

    Raises CheckpointError if it is neither a file nor a folder, or if it must be `within` the checkpoint and is a link
    out of it.
    """
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
        raise CheckpointError(f"{one_line(name)} is not a regular file", hint=_DOWNLOAD_HINT)
    return found


def read_file(folder: Path, name: str, limit: int = MAX_BYTES, *, within: bool = False) -> bytes | None:
    """Return the file's bytes, or None if there is none. Raises CheckpointError as `resolve_file` does, and if the file
    has more than `limit` bytes."""
    path = resolve_file(folder, name, within=within)
    try:
        data = None if path is None else read_bounded(path, limit)
    except OSError as exc:
        raise CheckpointError(
            f"{one_line(name)} cannot be read: {os_error_reason(exc)}", hint=os_error_cure(exc)
        ) from exc
    if data is not None:
        reject_lfs_pointer(one_line(name), data[: len(LFS_POINTER)])
    return data


def reject_lfs_pointer(name: str, beginning: bytes) -> None:
    """Raise CheckpointError for a file that begins as the text that git-lfs leaves in place of a large file."""
    if beginning.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{name} is a git-lfs pointer, not the file itself",
            hint="run `git lfs install` and `git lfs pull` in the checkpoint's folder",
        )


def read_json(path: Path, *, required: bool = False) -> dict[str, Any]:
    """Return the JSON object in a file; {} if there is none and it is not `required`. Raises CheckpointError."""
    data = read_file(path.parent, path.name)
    if data is None:
        if required:
            raise CheckpointError(f"{path.name} is missing", hint=DOWNLOAD_AGAIN)
        return {}
    try:
        value = strict_json.parse(data)
    except ValueError as exc:
        raise CheckpointError(f"{path.name} is not readable JSON: {one_line(exc, 100)}", hint=DOWNLOAD_AGAIN) from exc
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} is not a JSON object", hint=DOWNLOAD_AGAIN)
    return value


def read_licence(folder: Path) -> tuple[bytes, bool]:
    """Return the model card, b"" if there is none, and whether there is a LICENSE file. Raises CheckpointError."""
    return read_file(folder, "README.md", _MAX_README_BYTES, within=True) or b"", resolve_file(
        folder, "LICENSE", within=True
    ) is not None


def os_error_cure(exc: Exception) -> str:
    """Return what to do about a file that cannot be read."""
    return UNREADABLE_HINT if getattr(exc, "errno", None) == errno.EIO else "check its path and its permissions"


def os_error_reason(exc: Exception) -> str:
    """Return the system's words for an error, in one line."""
    return one_line(getattr(exc, "strerror", None) or exc)


def _is_inside(path: Path, folder: Path) -> bool:
    if path.is_relative_to(folder):
        return True
    entry = folder.parent.parent  # models--zai-org--GLM-4-9B-0414/snapshots/COMMIT
    return (
        folder.parent.name == "snapshots" and entry.name.startswith("models--") and path.is_relative_to(entry / "blobs")
    )
