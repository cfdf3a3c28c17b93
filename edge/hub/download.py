"""Resumable downloads into a hub's cache: an interrupted file continues at the byte where it stopped.

huggingface_hub resumes within a call, but its later versions discard the partial file of an earlier call, and a shard
of GLM-4 has 5 GB. Weights are therefore downloaded here, with the library's session and headers, to the path in the
cache (named by the file's hash) where `snapshot_download` then finds them.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from io import BufferedRandom
from pathlib import Path
from typing import Any

from runtime.system import network
from runtime.system.files import is_plain_file, remove

TIMEOUT = 30.0  # seconds to wait for a response, and for more of it
RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0)  # seconds between attempts that make no progress
_RETRY_STATUSES = (408, 429, 500, 502, 503, 504)
_CHUNK = 1 << 16


Report = Callable[[str, int, int], None]  # a file's name, its bytes so far, and its size


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a repository to download: `files` are the patterns of all, `weights` those of the files to resume,
    whose progress is reported. Without a `revision`, those of the main branch."""

    repository: str
    files: Sequence[str]
    weights: Sequence[str]
    revision: str | None = None

    def has_weights(self, name: str) -> bool:
        """Return whether the file is one to resume."""
        return any(fnmatch(name, pattern) for pattern in self.weights)


def download_snapshot(wanted: Snapshot, endpoint: str, cache: str, *, report: Report) -> Path:
    """Download the files from a hub like Hugging Face's to its cache, and return their folder.

    Raises the errors of the hub's library, unless all files are in the cache already.
    """
    hub: Any = import_module("huggingface_hub")
    options = {
        "allow_patterns": list(wanted.files),
        "cache_dir": cache,
        "endpoint": endpoint,
        "revision": wanted.revision,
    }
    try:
        info = hub.HfApi(endpoint=endpoint).model_info(wanted.repository, revision=wanted.revision, timeout=TIMEOUT)
    except Exception:  # raised again, unless the cache has all files
        if folder := _cached_snapshot(hub, wanted, options):
            return folder
        raise
    if import_module("huggingface_hub.file_download").are_symlinks_supported(cache):  # without links it would copy them
        for name in sorted(sibling.rfilename for sibling in info.siblings or ()):
            if wanted.has_weights(name) and (file := _describe_file(wanted, name, info.sha, endpoint)):
                folder = Path(cache) / cache_entry(wanted.repository)
                lock = Path(cache) / ".locks" / folder.name / f"{file.digest}.part.lock"
                FileDownload(file, folder / "blobs" / file.digest, lock).fetch(report)
    return Path(hub.snapshot_download(wanted.repository, **options))


def _cached_snapshot(hub: Any, wanted: Snapshot, options: dict[str, Any]) -> Path | None:
    """Return the folder of an earlier call's files if they are complete."""
    try:
        folder = Path(hub.snapshot_download(wanted.repository, local_files_only=True, **options))
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return folder if has_all_weights(folder, wanted) else None


def has_all_weights(folder: Path, wanted: Snapshot) -> bool:
    """Return whether a folder of an earlier download has all wanted weights, those that its index names included."""
    try:
        if wanted.weights and not any(path for pattern in wanted.weights for path in folder.glob(pattern)):
            return False
        for index in folder.glob("*.safetensors.index.json"):
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if "*.safetensors" in wanted.files and not all((folder / shard).exists() for shard in shards):
                return False
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return False
    return folder.is_dir()


def cache_entry(repository: str) -> str:
    """Return the name of a repository's folder in the hub's cache."""
    files: Any = import_module("huggingface_hub.file_download")
    return str(files.repo_folder_name(repo_id=repository, repo_type="model"))


def _describe_file(wanted: Snapshot, name: str, commit: str, endpoint: str) -> "RemoteFile | None":
    """Return a file of a commit; None if it has no hash: such a file is left to the hub's library."""
    files: Any = import_module("huggingface_hub.file_download")
    url = files.hf_hub_url(wanted.repository, name, revision=commit, endpoint=endpoint)
    described = files.get_hf_file_metadata(url, timeout=TIMEOUT, endpoint=endpoint)
    size, digest = described.size or 0, described.etag or ""
    if not size or not re.fullmatch(r"\w[\w.-]*", digest):
        return None
    return RemoteFile(name, url, size, digest, import_module("huggingface_hub.utils").build_hf_headers())


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on a hub. Its `digest` is a SHA-256 in hexadecimal, or another name of its content."""

    name: str
    url: str
    size: int
    digest: str
    headers: Mapping[str, str]


class FileDownload:
    """The download of a file to a path. What an interrupted one has left beside it, as DIGEST.part, is continued."""

    def __init__(self, file: RemoteFile, path: Path, lock: Path) -> None:
        self._utils: Any = import_module("huggingface_hub.utils")
        self._file, self._path, self._lock = file, path, lock

    def fetch(self, report: Report) -> None:
        """Download the file, unless it is there."""
        if self._path.exists():
            return
        for folder in (self._path.parent, self._lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f"{self._file.digest}.part")
        with self._utils.WeakFileLock(self._lock):
            if self._path.exists():  # another process has finished it
                return
            if not is_plain_file(partial):
                remove(partial)
            with partial.open("a+b") as file:
                self._download(file, report)
                self._verify_hash(file)
            partial.replace(self._path)

    def _download(self, file: BufferedRandom, report: Report) -> None:
        """Request the rest until the file is complete, or several attempts make no progress."""
        waits = list(RETRY_DELAYS)
        reached = file.seek(0, 2)
        with self._utils.tqdm(
            total=self._file.size, initial=reached, unit="B", unit_scale=True, desc=self._file.name
        ) as bar:
            while file.tell() != self._file.size:
                try:
                    self._request_rest(file, bar, report)
                    broken: Exception = OSError("Consistency check failed: the hub sent less than it announced")
                except Exception as exc:
                    status = getattr(getattr(exc, "response", None), "status_code", 0)
                    if status not in _RETRY_STATUSES and network.explain(exc, self._file.url) is None:
                        raise
                    broken = exc
                if file.seek(0, 2) > reached:
                    reached, waits = file.tell(), list(RETRY_DELAYS)
                elif not waits:
                    raise broken
                elif file.tell() != self._file.size:
                    time.sleep(waits.pop(0))

    def _request_rest(self, file: BufferedRandom, bar: Any, report: Report) -> None:
        """Send one request for the missing bytes."""
        start = file.tell()
        headers = {**self._file.headers, "Accept-Encoding": "identity"}
        if start > self._file.size:
            start = file.truncate(0)
        if start:
            headers["Range"] = f"bytes={start}-"
        with self._stream_response(headers) as (response, pieces):
            if start and response.status_code in (200, 416):  # it supports no ranges, or not this one
                start = file.truncate(0)
            if response.status_code == 416:
                return
            self._utils.hf_raise_for_status(response)
            bar.reset(self._file.size)
            bar.update(start)
            for piece in pieces:
                file.write(piece)
                bar.update(len(piece))
                report(self._file.name, file.tell(), self._file.size)

    @contextmanager
    def _stream_response(self, headers: dict[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
        """Yield the response and its bytes as they arrive, from httpx or httpx2, or else from requests."""
        session = self._utils.get_session()
        if callable(getattr(session, "stream", None)):
            with session.stream(
                "GET", self._file.url, headers=headers, timeout=TIMEOUT, follow_redirects=True
            ) as response:
                yield response, response.iter_bytes()
        else:
            with session.get(self._file.url, headers=headers, timeout=TIMEOUT, stream=True) as response:
                yield response, response.iter_content(_CHUNK)

    def _verify_hash(self, file: BufferedRandom) -> None:
        """Raise OSError, and empty the file, if its SHA-256 is not its name: the hub names large files so."""
        if not re.fullmatch(r"[0-9a-f]{64}", self._file.digest):
            return
        file.seek(0)
        if hashlib.file_digest(file, "sha256").hexdigest() != self._file.digest:
            file.truncate(0)
            raise OSError(f"Consistency check failed: the hash of {self._file.name} is not the hub's")
