"""The data that we keep on this machine in places that nobody named: what, why, where, how much, and its removal.

Whoever keeps something new adds a row to KINDS: `edge data` and docs/data.md follow, and tests/test_kept_data.py fails
for a file outside of it.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.backends.openvino.int4.library import library_root
from runtime.backends.tuned_settings import tuned_root
from runtime.errors import RequestError
from runtime.folder.compile_cache import compiled_root
from runtime.system.files import remove
from runtime.system.user_folders import history_file, log_folder, pictures_folder

from .. import service
from ..store.model_store import store_root


@dataclass(frozen=True, slots=True)
class DataKind:
    """A kind of data. `locate` returns its file or folder, which need not exist, and `beside` further files that belong
    to it; both raise RequestError if the user has no home folder. `delete` ends what uses it."""

    name: str
    what: str
    why: str
    locate: Callable[[], Path]
    beside: Callable[[Path], tuple[Path, ...]] = lambda _: ()
    delete: Callable[[Path], None] = remove


@dataclass(frozen=True, slots=True)
class KeptData:
    """Data of a kind that is there: its file or folder, and the bytes and files in it."""

    kind: DataKind
    path: Path
    size: int
    files: int

    @property
    def beside(self) -> tuple[Path, ...]:
        """The further files that belong to it and are there."""
        return tuple(path for path in self.kind.beside(self.path) if path.exists())


def _installed_service() -> Path:
    return service.describe_service(()).path


def _models_of_service(path: Path) -> tuple[Path, ...]:
    """Return the file of a service's models, where it has one, and the server's report on it."""
    models = path.with_name(f"{service.NAME}.models.json")
    return models, models.with_name(f"{models.name}.served")


def _remove_service(_: Path) -> None:
    service.remove(service.describe_service(()))


# The service comes first: it has its log open.
KINDS = (
    DataKind(
        "service",
        "the file of `edge service install`",
        "the system starts the server at every login",
        _installed_service,
        _models_of_service,
        delete=_remove_service,
    ),
    DataKind("compiled", "compiled models of GPU and NPU", "the next load takes seconds", compiled_root),
    DataKind("kernel", "the kernel of `edge kernel`", "int4 models load and answer faster", library_root),
    DataKind("tuned", "the settings that `edge bench FOLDER --tune` found", "the next load uses them", tuned_root),
    DataKind(
        "models", "models of `edge run` and `edge pull`", "they are not downloaded and converted again", store_root
    ),
    DataKind("history", "the messages typed in `edge chat`", "the arrow keys bring them back", history_file),
    DataKind("pictures", "pictures that tools return in `edge chat`", "they can be opened", pictures_folder),
    DataKind("logs", "the log of `edge serve --log-file`", "it says why a service does not run", log_folder),
)
NAMES = tuple(kind.name for kind in KINDS)


def find_data(names: Iterable[str] = NAMES) -> list[KeptData]:
    """Return the data of these kinds that is there. A kind without a place, as of a user without a home, is left out,
    and so is one in a folder that the user has named in a variable: it may have other things in it. Raises RequestError
    for an unknown kind."""
    kinds = {kind.name: kind for kind in KINDS}
    found = []
    for name in names:
        if name not in kinds:
            raise RequestError(f"there is no data of the kind {name!r}", hint=f"choose of {', '.join(kinds)}")
        with suppress(RequestError):
            path = kinds[name].locate()
            sizes = list(_sizes(path, *kinds[name].beside(path)))
            if sizes and _is_ours(path):
                found.append(KeptData(kinds[name], path, sum(sizes), len(sizes)))
    return found


def _is_ours(path: Path) -> bool:
    """Return whether a file or a folder above it has our name: those of platformdirs and of a service have."""
    return any(service.NAME in part for part in path.parts)


def delete_data(data: KeptData) -> str:
    """Delete the data. Return why some of it is still there; "" if it is gone."""
    beside = data.kind.beside(data.path)
    try:
        data.kind.delete(data.path)
        for path in beside:
            remove(path)
    except RequestError as exc:
        return str(exc)
    except OSError as exc:
        return exc.strerror or str(exc)
    return "another program uses it" if any(True for _ in _sizes(data.path, *beside)) else ""


def _sizes(*paths: Path) -> Iterator[int]:
    """Yield the sizes of files, and of folders' files. Links are not followed."""
    for path in paths:
        if not path.is_dir() or path.is_symlink():
            with suppress(OSError):
                yield path.lstat().st_size
            continue
        for folder, folders, names in os.walk(path):
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in (*names, *links):
                with suppress(OSError):
                    yield Path(folder, name).lstat().st_size
