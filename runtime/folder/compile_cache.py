"""The cache of compiled models. OpenVINO writes it; we choose the place, verify it and delete old entries.

Each combination of model, device and driver has a folder in the user's cache. OpenVINO compiles again if it cannot read
a cached file, but it does not notice changed bytes among the weights. Therefore each folder has a list of hashes; a
folder that does not match its list is deleted before OpenVINO reads it.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import strict_json
from ..errors import RequestError
from ..system.files import is_plain_file, is_plain_folder, read_bounded, remove, write_atomically
from ..system.process_name import is_alive, process_name
from ..system.user_folders import cache_folder, make_private
from .model_folder import ModelFolder, file_sha256

CACHE_VARIABLE = "EDGE_CACHE"  # replaces the user's cache folder
MAX_CACHE_BYTES = 20 * 10**9  # of all compiled models; the least recently used are deleted first
_KEY = re.compile("[0-9a-f]{32}")
HASHES_FILE = "seals.json"
_MAX_HASHES_BYTES = 1 << 20
_COMPILE_TIMEOUT = 600  # seconds during which a folder without hashes or a lock file counts as being compiled
_MAX_LOCK_BYTES = 256


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A cached model: its device, its bytes, and when it was last used (seconds since 1970)."""

    path: Path
    model: str
    device: str
    size: int
    used: float


def cache_root() -> Path:
    """Return the folder of all our caches. Raises RequestError if the user has no home folder and CACHE_VARIABLE is
    unset."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    try:
        return cache_folder()
    except RequestError as exc:
        hint = f"name another in {CACHE_VARIABLE}"
        raise RequestError("this user has no home folder for compiled models", hint=hint) from exc


def compiled_root() -> Path:
    """Return the folder of compiled models. Raises RequestError as `cache` does."""
    return cache_root() / "compiled"


@contextmanager
def caching(folder: ModelFolder, device: str, driver: str) -> Iterator[dict[str, str]]:
    """Yield OpenVINO's property for loading this model on this device from the cache; {} if it cannot be cached.

    After the block the hashes of a new entry are recorded, and other models are deleted until the cache fits its limit.
    """
    try:
        path = compiled_root() / _key(folder, device, driver)
        if not is_intact(path):
            if not _is_complete(path) and _is_being_compiled(path):
                yield {}
                return
            remove(path)
            make_private(compiled_root())
            make_private(path)
            write_atomically(_lock_path(path), process_name(os.getpid()).encode(), private=True)
        before = _file_stats(path)
    except (OSError, RequestError):
        yield {}
        return
    try:
        yield {"CACHE_DIR": str(path)}
    except BaseException:
        remove(_lock_path(path))
        raise
    with suppress(OSError):
        if _file_stats(path) != before:
            _write_hashes(path, folder, device)
        remove(_lock_path(path))
        os.utime(path / HASHES_FILE)
        clear(keep=MAX_CACHE_BYTES, spare=path)


def list_models() -> list[CachedModel]:
    """Return the cached models, the most recently used first."""
    found = []
    for path in compiled_root().glob("*"):
        if not _KEY.fullmatch(path.name) or not is_plain_folder(path):  # not ours
            continue
        with suppress(OSError):
            size = sum(file.lstat().st_size for file in path.iterdir())
            record, used = _read_hashes(path), (path / HASHES_FILE if _is_complete(path) else path).stat().st_mtime
            found.append(CachedModel(path, record.get("model", "unfinished"), record.get("device", ""), size, used))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def clear(keep: int = 0, spare: Path | None = None) -> list[CachedModel]:
    """Delete the least recently used models, except `spare`, until `keep` bytes are left. Return those deleted."""
    total, removed = 0, []
    for entry in list_models():
        total += entry.size
        if total > keep and entry.path != spare:
            remove(entry.path)
            removed.append(entry)
    return removed


def _key(folder: ModelFolder, device: str, driver: str) -> str:
    """Return the name of the cache folder. It depends on the hashes of the model's files, not on their place, and on
    the versions of the driver and OpenVINO."""
    import openvino

    files = {name: file.sha256 for name, file in folder.manifest.files.items() if name.startswith("openvino_model")}
    what = json.dumps([files, device, driver, openvino.get_version()], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()[:32]


def _read_hashes(path: Path) -> dict[str, Any]:
    if not _is_complete(path):
        return {}
    try:
        found = strict_json.parse(read_bounded(path / HASHES_FILE, _MAX_HASHES_BYTES))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_intact(path: Path) -> bool:
    """Return whether the folder has exactly the recorded files with their hashes, and no links."""
    plain = is_plain_folder(path) and all(map(is_plain_file, path.iterdir()))
    return plain and _is_complete(path) and _read_hashes(path).get("files") == _file_hashes(path)


def _is_complete(path: Path) -> bool:
    return is_plain_file(path / HASHES_FILE)


def _write_hashes(path: Path, folder: ModelFolder, device: str) -> None:
    manifest = folder.manifest
    record = {"model": f"{manifest.source.name}, {manifest.recipe}", "device": device, "files": _file_hashes(path)}
    write_atomically(path / HASHES_FILE, json.dumps(record).encode())
    for file in path.iterdir():  # OpenVINO writes them for everybody
        file.chmod(0o600)


def _file_stats(path: Path) -> dict[str, tuple[int, int]]:
    return {
        file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in path.iterdir() if file.name != HASHES_FILE
    }


def _lock_path(path: Path) -> Path:
    """Return the lock file next to a folder. It names the process that compiles into it."""
    return path.with_suffix(".compiling")


def _is_being_compiled(path: Path) -> bool:
    """Return whether another process is compiling into the folder."""
    with suppress(OSError, UnicodeDecodeError):
        return is_alive(read_bounded(_lock_path(path), _MAX_LOCK_BYTES).decode())
    return _age(path) < _COMPILE_TIMEOUT  # made by an earlier version


def _age(path: Path) -> float:
    """Return the seconds since the folder was created; infinity if there is none."""
    return time.time() - path.stat().st_mtime if is_plain_folder(path) else float("inf")


def _file_hashes(path: Path) -> dict[str, str]:
    return {file.name: file_sha256(file) for file in sorted(path.iterdir()) if file.name != HASHES_FILE}
