"""A model folder is held against its manifest's hashes before an engine loads it: OpenVINO believes every byte.

What is small is hashed before every load. The weights are hashed beside the loading, and only where they are not the
file of the last good check: a record in the user's cache has its size, times and inode. A conversion is such a check.
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
_HASH_CHUNK = 1 << 22  # bytes read at once
_MAX_RECORD_BYTES = 4096  # bytes of a record at most
_CLOCK_TICK = 20_000_000  # ns; Linux stamps files by its timer, every 10 ms at the slowest


@contextmanager
def verify_while_loading(folder: ModelFolder, *, weights: bool = True, concurrently: bool = True) -> Iterator[None]:
    """A context to load the folder in: its files are those of the manifest, or it ends with an error.

    Small files are hashed at its beginning, `weights` `beside` what is done in it or before. An error of the loading
    gives way to one of the check, which explains it. Raises ModelFolderError naming the file that differs.
    """
    folder.verify_manifest()
    folder.verify([name for name in folder.manifest.files if not _is_weights(name)])
    names = [name for name in folder.manifest.files if weights and _is_weights(name) and not _is_recorded(folder, name)]
    look = _HashThread(folder, names)
    if not concurrently:
        look.join()
    try:
        yield
    except Exception as exc:
        look.join(exc)
        raise
    except BaseException:  # Ctrl-C waits for no hash
        look.stop()
        raise
    look.join()


def record_verified(folder: ModelFolder) -> None:
    """Record that the folder's weights match its manifest. Where there is no cache folder, nothing is recorded."""
    for name in filter(_is_weights, folder.manifest.files):
        with suppress(OSError, RequestError):
            _write_record(folder, name, _stamp(folder.path / name))


class _HashThread:
    """Files of a folder, hashed in a thread of its own."""

    def __init__(self, folder: ModelFolder, names: list[str]) -> None:
        self._folder = folder
        self._names = names
        self._stopped = Event()
        self._error: ModelFolderError | None = None
        self._thread = Thread(target=self._run, name="edge-check", daemon=True)
        if names:
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def join(self, cause: BaseException | None = None) -> None:
        """Wait for the end. Raises the ModelFolderError that was found."""
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
                    _write_record(self._folder, name, before)
            except ModelFolderError as exc:
                self._error = exc
                return
            except OSError as exc:
                self._error = ModelFolderError(f"{path} cannot be read: {exc.strerror}", hint=CONVERT_AGAIN)
                return


def _is_weights(name: str) -> bool:
    return name.endswith(".bin") and name not in _TOKENIZERS


def _stamp(path: Path) -> list[int]:
    """What changes with a file's bytes: size, times of change in ns, inode."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _stable_stamp(path: Path) -> list[int]:
    """The stamp of a file that is not as young as its file system's clock is coarse: what is written to it from now on
    shows in its times."""
    if 0 <= time.time_ns() - path.stat().st_ctime_ns < _CLOCK_TICK:
        time.sleep(_CLOCK_TICK / 1e9)
    return _stamp(path)


def _record_path(path: Path) -> Path:
    """The record of that file. Raises RequestError where there is no cache folder."""
    return (
        cache_root()
        / "checked"
        / (hashlib.sha256(str(path.resolve()).encode(errors="replace")).hexdigest()[:32] + ".json")
    )


def _write_record(folder: ModelFolder, name: str, stamp: list[int]) -> None:
    place = _record_path(folder.path / name)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, json.dumps({"sha256": folder.manifest.files[name].sha256, "stamp": stamp}).encode())


def _is_recorded(folder: ModelFolder, name: str) -> bool:
    """Whether the last good check was of this very file."""
    try:
        path = folder.path / name
        found = strict_json.parse(read_bounded(_record_path(path), _MAX_RECORD_BYTES))
        return bool(found == {"sha256": folder.manifest.files[name].sha256, "stamp": _stamp(path)})
    except (OSError, ValueError, RequestError):
        return False
