"""Downloads from ModelScope, into the cache of its own client: CACHE/models/OWNER--NAME/snapshots/REVISION.

Its API is plain HTTP, of which two requests are used (https://modelscope.cn/docs/models/download):

    GET /api/v1/models/OWNER/NAME/repo/files?Revision=R&Recursive=true     {"Data": {"Files": [{"Path": …}]}}
    GET /api/v1/models/OWNER/NAME/repo?Revision=R&FilePath=PATH            the file; Range continues one
"""

import hashlib
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from runtime.system.files import is_plain_file, remove
from runtime.version import VERSION

from .download import TIMEOUT, FileDownload, RemoteFile, Report, Snapshot, has_all_weights
from .hubs import MODELSCOPE

MAIN = "master"
_SMALL_BYTES = 1 << 26  # of a file whose hash is compared before it is used again


class ListingError(Exception):
    """The response of a server that is not ModelScope."""


def cache_folder() -> Path:
    """Return the cache of ModelScope's client."""
    return Path(os.environ.get(MODELSCOPE.cache_variable) or Path.home() / ".cache" / "modelscope")


def download_snapshot(wanted: Snapshot, endpoint: str, *, report: Report) -> Path:
    """Download the files, and return their folder. Files of an earlier download, or of ModelScope's own client, are
    used again.

    Raises the errors of the HTTP library, and ListingError where the server is not ModelScope, unless all weights are
    in the cache already.
    """
    revision = wanted.revision or MAIN
    entry = cache_folder() / "models" / wanted.repository.replace("/", "--")
    folder = entry / "snapshots" / revision
    try:
        files = list(list_files(wanted, endpoint))
    except Exception:  # raised again, unless the cache has all files
        if has_all_weights(folder, wanted):
            return folder
        raise
    for file in sorted(files, key=lambda file: wanted.has_weights(file.name)):  # weights last: then all is there
        path = folder / file.name
        if path.exists() and not _is_same(path, file):
            remove(path)
        shown = report if wanted.has_weights(file.name) else _ignore
        FileDownload(file, path, entry / ".locks" / f"{file.digest}.lock").fetch(shown)
    return folder


def list_files(wanted: Snapshot, endpoint: str) -> Iterator[RemoteFile]:
    """Yield the wanted files. Raises the errors of the HTTP library, and ListingError."""
    revision = wanted.revision or MAIN
    utils: Any = import_module("huggingface_hub.utils")
    repository = f"{endpoint}/api/v1/models/{quote(wanted.repository)}/repo"
    query = urlencode({"Revision": revision, "Recursive": "true"})
    response = utils.get_session().get(f"{repository}/files?{query}", headers=_headers(), timeout=TIMEOUT)
    utils.hf_raise_for_status(response)
    try:
        listed = [(str(entry["Path"]), int(entry["Size"]), entry) for entry in response.json()["Data"]["Files"]]
        files = [(*file, entry.get("Sha256")) for *file, entry in listed if entry["Type"] != "tree"]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ListingError("it has no list of files") from exc
    for name, size, digest in files:
        if not any(fnmatch(name, pattern) for pattern in wanted.files):
            continue
        if set(name) & set("\\:") or not name.isprintable() or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise ListingError(f"it lists {name!r:.80}")
        known = isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest)
        content = digest if known else f"{name.replace('/', '-')}-{size}"  # the size must do
        url = f"{repository}?{urlencode({'Revision': revision, 'FilePath': name})}"
        yield RemoteFile(name, url, size, content, _headers())


def _headers() -> dict[str, str]:
    """Return the headers of a request: our name, and the user's token as ModelScope's client sends it."""
    named = {"User-Agent": f"glm4-edge/{VERSION}"}
    token = os.environ.get(MODELSCOPE.access_variable)
    return named | ({"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {})


def _is_same(path: Path, file: RemoteFile) -> bool:
    """Return whether a file in the cache is the hub's. Of large ones, only the sizes are compared."""
    if not is_plain_file(path) or path.stat().st_size != file.size:
        return False
    if file.size > _SMALL_BYTES or len(file.digest) != 64:
        return True
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.digest


def _ignore(*_: object) -> None:
    """Report nothing: the file is small."""
