"""Compiled models, kept for the next load: OpenVINO writes them, we say where, check them and clear old ones away.

A folder in the user's cache holds what one model, device and driver gave. OpenVINO compiles again where it cannot read
such a file, but it does not see changed bytes among the weights; therefore each folder has a list of hashes, and one
that does not match it is thrown away before OpenVINO sees it.
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
from .model_folder import ModelFolder, file_sha256

VARIABLE = "EDGE_CACHE"  # another place than the user's cache folder
LIMIT = 20 * 10**9  # bytes of all compiled models; those not used for longest go first
_KEY = re.compile("[0-9a-f]{32}")
_SEALS = "seals.json"
_LARGEST = 1 << 20  # bytes of it
_COMPILING = 600  # seconds for which a folder without seals is left to whoever is filling it, where nothing says who
_OWNER = 256  # bytes of a process's name at most


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A cached folder: what it is of, bytes, and when it was last used (seconds since 1970)."""

    path: Path
    model: str
    device: str
    size: int
    used: float


def cache() -> Path:
    """The folder of all that is kept. Raises RequestError where nothing says which, and the user has no home."""
    from platformdirs import user_cache_path

    no_home = RequestError("this user has no home folder for compiled models", hint=f"name another in {VARIABLE}")
    try:
        found = Path(os.environ.get(VARIABLE) or user_cache_path("glm4-edge", appauthor=False))
    except RuntimeError:
        raise no_home from None
    if found.parts[:1] == ("~",):  # older versions of platformdirs
        raise no_home
    return found


def root() -> Path:
    """The folder of all compiled models. Raises RequestError as `cache` does."""
    return cache() / "compiled"


@contextmanager
def cached(folder: ModelFolder, device: str, driver: str) -> Iterator[dict[str, str]]:
    """OpenVINO's property for loading this model on this device; {} where nothing can be kept.

    Afterwards what was compiled is sealed, and what is over the limit is cleared, but for the model just loaded.
    """
    try:
        path = root() / _key(folder, device, driver)
        if not _is_whole(path):
            if not _is_sealed(path) and _is_being_filled(path):
                yield {}
                return
            remove(path)
            path.mkdir(parents=True)
            write_atomically(_owner(path), process_name(os.getpid()).encode())
        before = _stats(path)
    except (OSError, RequestError):
        yield {}
        return
    try:
        yield {"CACHE_DIR": str(path)}
    except BaseException:
        remove(_owner(path))
        raise
    with suppress(OSError):
        if _stats(path) != before:
            _seal(path, folder, device)
        remove(_owner(path))
        os.utime(path / _SEALS)
        clear(keep=LIMIT, spare=path)


def entries() -> list[CachedModel]:
    """What is cached, used last first."""
    found = []
    for path in root().glob("*"):
        if not _KEY.fullmatch(path.name) or not is_plain_folder(path):  # somebody else's
            continue
        with suppress(OSError):
            size = sum(file.lstat().st_size for file in path.iterdir())
            seals, used = _seals(path), (path / _SEALS if _is_sealed(path) else path).stat().st_mtime
            found.append(CachedModel(path, seals.get("model", "unfinished"), seals.get("device", ""), size, used))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def clear(keep: int = 0, spare: Path | None = None) -> list[CachedModel]:
    """Removes the folders not used for longest until `keep` bytes are left. Returns those removed."""
    total, removed = 0, []
    for entry in entries():
        total += entry.size
        if total > keep and entry.path != spare:
            remove(entry.path)
            removed.append(entry)
    return removed


def _key(folder: ModelFolder, device: str, driver: str) -> str:
    """The model by its files' hashes, so that a folder may move; a new driver or OpenVINO makes a new folder."""
    import openvino

    files = {name: file.sha256 for name, file in folder.manifest.files.items() if name.startswith("openvino_model")}
    what = json.dumps([files, device, driver, openvino.get_version()], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()[:32]


def _seals(path: Path) -> dict[str, Any]:
    if not _is_sealed(path):
        return {}
    try:
        found = strict_json.parse(read_bounded(path / _SEALS, _LARGEST))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_whole(path: Path) -> bool:
    """Whether the folder holds what was sealed, to the byte, in files and a folder of its own."""
    plain = is_plain_folder(path) and all(map(is_plain_file, path.iterdir()))
    return plain and _is_sealed(path) and _seals(path).get("files") == _hashes(path)


def _is_sealed(path: Path) -> bool:
    return is_plain_file(path / _SEALS)


def _seal(path: Path, folder: ModelFolder, device: str) -> None:
    manifest = folder.manifest
    seals = {"model": f"{manifest.source.name}, {manifest.recipe}", "device": device, "files": _hashes(path)}
    write_atomically(path / _SEALS, json.dumps(seals).encode())


def _stats(path: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in path.iterdir() if file.name != _SEALS}


def _owner(path: Path) -> Path:
    """The lock file beside a folder; it names the process that compiles into it."""
    return path.with_suffix(".compiling")


def _is_being_filled(path: Path) -> bool:
    """Whether another process is compiling into the folder."""
    with suppress(OSError, UnicodeDecodeError):
        return is_alive(read_bounded(_owner(path), _OWNER).decode())
    return _age(path) < _COMPILING  # an earlier version's


def _age(path: Path) -> float:
    """Seconds since the folder was made; infinite where there is none."""
    return time.time() - path.stat().st_mtime if is_plain_folder(path) else float("inf")


def _hashes(path: Path) -> dict[str, str]:
    return {file.name: file_sha256(file) for file in sorted(path.iterdir()) if file.name != _SEALS}
