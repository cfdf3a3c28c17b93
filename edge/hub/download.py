"""Resumable downloads into the hub's cache: an interrupted file continues at the byte where it stopped.

huggingface_hub resumes within a call, but its later versions discard the partial file of an earlier call, and a shard
of GLM-4 has 5 GB. Weights are therefore downloaded here, with the library's session and headers, to the path in the
cache (named by the file's hash) where `snapshot_download` then finds them.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


def download_snapshot(
    repository: str, patterns: Sequence[str], weights: Sequence[str], endpoint: str, cache: str, *, report: Report
) -> Path:
    """Download the files that match `patterns`, and return their folder; `weights` are the patterns to resume, whose
    progress is reported.

    Raises the errors of the hub's library, unless all files are in the cache already.
    """
    hub: Any = import_module("huggingface_hub")
    wanted = {"allow_patterns": list(patterns), "cache_dir": cache, "endpoint": endpoint}
    try:
        info = hub.HfApi(endpoint=endpoint).model_info(repository, timeout=TIMEOUT)
    except Exception:  # raised again, unless the cache has all files
        if folder := _cached_snapshot(hub, repository, wanted):
            return folder
        raise
    if import_module("huggingface_hub.file_download").are_symlinks_supported(cache):  # without links it would copy them
        for name in sorted(sibling.rfilename for sibling in info.siblings or ()):
            if any(fnmatch(name, pattern) for pattern in weights):
                _FileDownload(repository, name, info.sha, endpoint, cache).fetch(report)
    return Path(hub.snapshot_download(repository, **wanted))


def _cached_snapshot(hub: Any, repository: str, wanted: dict[str, Any]) -> Path | None:
    """Return the folder of an earlier call's files if they are complete."""
    try:
        folder = Path(hub.snapshot_download(repository, local_files_only=True, **wanted))
        for index in folder.glob("*.safetensors.index.json"):
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if "*.safetensors" in wanted["allow_patterns"] and not all((folder / shard).exists() for shard in shards):
                return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    return folder


class _FileDownload:
    """The download of a file of a repository, at a commit, into the cache."""

    def __init__(self, repository: str, name: str, commit: str, endpoint: str, cache: str) -> None:
        files: Any = import_module("huggingface_hub.file_download")
        self._utils: Any = import_module("huggingface_hub.utils")
        self._name = name
        self._url = files.hf_hub_url(repository, name, revision=commit, endpoint=endpoint)
        described = files.get_hf_file_metadata(self._url, timeout=TIMEOUT, endpoint=endpoint)
        self._size, self._hash = described.size or 0, described.etag or ""
        folder = files.repo_folder_name(repo_id=repository, repo_type="model")
        self._blobs, self._locks = Path(cache) / folder / "blobs", Path(cache) / ".locks" / folder

    def fetch(self, report: Report) -> None:
        """Download the file, unless it is in the cache, or has no hash: such a file is left to the hub's library."""
        if not self._size or not re.fullmatch(r"\w[\w.-]*", self._hash) or (self._blobs / self._hash).exists():
            return
        for folder in (self._blobs, self._locks):
            folder.mkdir(parents=True, exist_ok=True)
        partial = self._blobs / f"{self._hash}.part"
        with self._utils.WeakFileLock(self._locks / f"{self._hash}.part.lock"):
            if (self._blobs / self._hash).exists():  # another process has finished it
                return
            if not is_plain_file(partial):
                remove(partial)
            with partial.open("a+b") as file:
                self._download(file, report)
                self._verify_hash(file)
            partial.replace(self._blobs / self._hash)

    def _download(self, file: BufferedRandom, report: Report) -> None:
        """Request the rest until the file is complete, or several attempts make no progress."""
        waits = list(RETRY_DELAYS)
        reached = file.seek(0, 2)
        with self._utils.tqdm(total=self._size, initial=reached, unit="B", unit_scale=True, desc=self._name) as bar:
            while file.tell() != self._size:
                try:
                    self._request_rest(file, bar, report)
                    broken: Exception = OSError("Consistency check failed: the hub sent less than it announced")
                except Exception as exc:
                    status = getattr(getattr(exc, "response", None), "status_code", 0)
                    if status not in _RETRY_STATUSES and network.explain(exc, self._url) is None:
                        raise
                    broken = exc
                if file.seek(0, 2) > reached:
                    reached, waits = file.tell(), list(RETRY_DELAYS)
                elif not waits:
                    raise broken
                elif file.tell() != self._size:
                    time.sleep(waits.pop(0))

    def _request_rest(self, file: BufferedRandom, bar: Any, report: Report) -> None:
        """Send one request for the missing bytes."""
        start = file.tell()
        headers = {**self._utils.build_hf_headers(), "Accept-Encoding": "identity"}
        if start > self._size:
            start = file.truncate(0)
        if start:
            headers["Range"] = f"bytes={start}-"
        with self._stream_response(headers) as (response, pieces):
            if start and response.status_code in (200, 416):  # it supports no ranges, or not this one
                start = file.truncate(0)
            if response.status_code == 416:
                return
            self._utils.hf_raise_for_status(response)
            bar.reset(self._size)
            bar.update(start)
            for piece in pieces:
                file.write(piece)
                bar.update(len(piece))
                report(self._name, file.tell(), self._size)

    @contextmanager
    def _stream_response(self, headers: dict[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
        """Yield the response and its bytes as they arrive, from httpx or httpx2, or else from requests."""
        session = self._utils.get_session()
        if callable(getattr(session, "stream", None)):
            with session.stream("GET", self._url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as response:
                yield response, response.iter_bytes()
        else:
            with session.get(self._url, headers=headers, timeout=TIMEOUT, stream=True) as response:
                yield response, response.iter_content(_CHUNK)

    def _verify_hash(self, file: BufferedRandom) -> None:
        """Raise OSError, and empty the file, if its SHA-256 is not its name: the hub names large files so."""
        if not re.fullmatch(r"[0-9a-f]{64}", self._hash):
            return
        file.seek(0)
        if hashlib.file_digest(file, "sha256").hexdigest() != self._hash:
            file.truncate(0)
            raise OSError(f"Consistency check failed: the hash of {self._name} is not the hub's")
