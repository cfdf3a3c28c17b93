"""Verifying a model folder against its manifest's hashes when an engine loads it: OpenVINO trusts every byte.

Small files are hashed before every load. Weights are hashed in parallel with the load, and only if they are not the
file of the last successful check, whose size, times and inode are recorded in the user's cache. A conversion records
its own result.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from .. import strict_json
from ..errors import ModelFolderError, RequestError
from ..system.files import read_bounded, write_atomically
from .compile_cache import cache_root
from .model_folder import CONVERT_AGAIN, ModelFolder

_TOKENIZERS = ("openvino_tokenizer.bin", "openvino_detokenizer.bin")
_HASH_CHUNK = 1 << 22  # bytes
_MAX_RECORD_BYTES = 4096
_CLOCK_TICK = 20_000_000  # ns; the times of files on Linux advance every 10 ms or faster


@contextmanager
def verify_while_loading(folder: ModelFolder, *, weights: bool = True, concurrently: bool = True) -> Iterator[None]:
    """Verify the folder's files while the block loads them. Raises ModelFolderError naming the file that differs.

    Small files are hashed before the block, `weights` `concurrently` with it or before it. If both the load and the
    check fail, the check's error is raised, as it explains the other.
    """
    folder.verify_manifest()
    folder.verify([name for name in folder.manifest.files if not _is_weights(name)])
    names = [name for name in folder.manifest.files if weights and _is_weights(name) and not is_recorded(folder, name)]
    check = _HashThread(folder, names)
    if not concurrently:
        check.join()
    try:
        yield
    except Exception as exc:
        check.join(exc)
        raise
    except BaseException:  # Ctrl-C does not wait for the hash
        check.stop()
        raise
    check.join()


def record_verified(folder: ModelFolder) -> None:
    """Record that the folder's weights match its manifest, if there is a cache folder."""
    for name in filter(_is_weights, folder.manifest.files):
        with suppress(OSError, RequestError):
            write_record(folder, name, _stamp(folder.path / name))


class _HashThread:
    """A thread that hashes files of a folder."""

    def __init__(self, folder: ModelFolder, names: list[str]) -> None:
        self._folder = folder
        self._names = names
        self._stopped = Event()
        self._error: ModelFolderError | None = None
        self._thread = Thread(target=self._run, name="edge-check", daemon=True)
        if names:
            self._thread.start()

    def stop(self) -> None:
        """Stop before the next chunk."""
        self._stopped.set()

    def join(self, cause: BaseException | None = None) -> None:
        """Wait for the end. Raises the ModelFolderError that the thread found."""
        try:
            if self._names:
                self._thread.join()
        except BaseException:
            self.stop()
            raise
        if self._error is not None:
            raise self._error from cause

    def _run(self) -> None:
        for name in self._names:
            path = self._folder.path / name
            try:
                before, digest = _stable_stamp(path), hashlib.sha256()
                with path.open("rb") as file:
                    while (chunk := file.read(_HASH_CHUNK)) and not self._stopped.is_set():
                        digest.update(chunk)
                if self._stopped.is_set():
                    return
                self._folder.verify_hash(name, digest.hexdigest())
                with suppress(OSError, RequestError):
                    write_record(self._folder, name, before)
            except ModelFolderError as exc:
                self._error = exc
                return
            except OSError as exc:
                self._error = ModelFolderError(f"{path} cannot be read: {exc.strerror}", hint=CONVERT_AGAIN)
                return


def _is_weights(name: str) -> bool:
    return name.endswith(".bin") and name not in _TOKENIZERS


def _stamp(path: Path) -> list[int]:
    """Return what changes with a file's bytes: size, times of change in ns, inode."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _stable_stamp(path: Path) -> list[int]:
    """Return the stamp of a file once it is older than a tick of its file system's clock, so that later writes change
    its times."""
    if 0 <= time.time_ns() - path.stat().st_ctime_ns < _CLOCK_TICK:
        time.sleep(_CLOCK_TICK / 1e9)
    return _stamp(path)


def record_path(path: Path) -> Path:
    """Return the path of a file's record. Raises RequestError if there is no cache folder."""
    key = hashlib.sha256(str(path.resolve()).encode(errors="replace")).hexdigest()[:32]
    return cache_root() / "checked" / f"{key}.json"


def write_record(folder: ModelFolder, name: str, stamp: list[int]) -> None:
    """Record that a file with this stamp matches its hash. Raises OSError, RequestError."""
    path = record_path(folder.path / name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"sha256": folder.manifest.files[name].sha256, "stamp": stamp}).encode())


def is_recorded(folder: ModelFolder, name: str) -> bool:
    """Return whether the last successful check was of this very file."""
    try:
        path = folder.path / name
        found = strict_json.parse(read_bounded(record_path(path), _MAX_RECORD_BYTES))
        return bool(found == {"sha256": folder.manifest.files[name].sha256, "stamp": _stamp(path)})
    except (OSError, ValueError, RequestError):
        return False
