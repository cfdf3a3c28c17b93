"""The size of a download before it begins: all of its bytes, and those that are not in the cache yet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

from . import modelscope
from .download import TIMEOUT, Snapshot, cache_entry
from .hubs import MODELSCOPE, Hub


@dataclass(frozen=True, slots=True)
class DownloadSize:
    """Bytes of a checkpoint's files: `total`, and `missing` in the `cache`, its folder there."""

    total: int
    missing: int
    cache: Path


def measure_download(wanted: Snapshot, hub: Hub, endpoint: str, cache: str) -> DownloadSize:
    """Ask a hub for the sizes of the wanted files, and compare them with the cache. Raises the errors of the hub's
    library."""
    if hub is MODELSCOPE:
        return _measure_modelscope(wanted, endpoint)
    library: Any = import_module("huggingface_hub")
    info = library.HfApi(endpoint=endpoint).model_info(
        wanted.repository, revision=wanted.revision, files_metadata=True, timeout=TIMEOUT
    )
    sizes = {
        one.rfilename: int(one.size or 0)
        for one in info.siblings or ()
        if any(fnmatch(one.rfilename, pattern) for pattern in wanted.files)
    }
    entry = Path(cache) / cache_entry(wanted.repository)
    snapshot = entry / "snapshots" / str(info.sha)
    present = {name: size for name, size in sizes.items() if (snapshot / name).exists()}
    loose = sum(_file_sizes(_unlinked_blobs(entry)))
    total = sum(sizes.values())
    return DownloadSize(total, max(0, total - sum(present.values()) - loose), entry)


def _unlinked_blobs(entry: Path) -> list[Path]:
    """Return the files that an interrupted download has left: those that no snapshot links to."""
    linked = {path.resolve() for path in (entry / "snapshots").rglob("*") if path.is_symlink()}
    blobs = [path for path in (entry / "blobs").glob("*") if path.is_file()]
    return [path for path in blobs if path.resolve() not in linked]


def _measure_modelscope(wanted: Snapshot, endpoint: str) -> DownloadSize:
    entry = modelscope.cache_folder() / "models" / wanted.repository.replace("/", "--")
    folder = entry / "snapshots" / (wanted.revision or modelscope.MAIN)
    files = list(modelscope.list_files(wanted, endpoint))
    total = sum(file.size for file in files)
    present = sum(file.size for file in files if (folder / file.name).exists())
    partial = sum(_file_sizes(list(folder.rglob("*.part"))))
    return DownloadSize(total, max(0, total - present - partial), entry)


def _file_sizes(paths: Sequence[Path]) -> Iterator[int]:
    for path in paths:
        try:
            yield path.stat().st_size
        except OSError:
            continue
