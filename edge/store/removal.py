"""Removal of a model from the store, unless a running program has it open."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from runtime.errors import RequestError
from runtime.system.files import is_plain_folder, remove
from runtime.system.process_name import is_alive, is_process_name, process_name
from runtime.text import one_line

from .model_name import ModelName
from .model_store import StoredModel, store_root

_PARTIAL, _REMOVED = ".partial-", ".removed-"  # before a process's name; the first is convert/output/scratch.py's
_COMMAND_CHARACTERS = 80  # of a program's command line in an error


def remove_model(model: StoredModel) -> None:
    """Remove a model's folder. Raises RequestError if it is not in the store, if a program has it open, or if its files
    cannot be removed."""
    path = model.path
    if path.parent != store_root() or not is_plain_folder(path):
        raise RequestError(f"{path} is not a folder of the store", hint="remove it yourself")
    if users := sorted(set(_users(model))):
        raise RequestError(f"{model.name} is in use by {', '.join(users)}", hint="end that first")
    doomed = path.with_name(f".{path.name}{_REMOVED}{process_name(os.getpid())}")
    try:
        path.rename(doomed)  # on Windows this fails while a program has one of the files open
    except OSError as exc:
        raise RequestError(
            f"{path} cannot be removed: {exc.strerror}", hint="end the programs that use it, and try again"
        ) from exc
    remove(doomed)
    if doomed.exists():
        raise RequestError(f"{doomed} cannot be removed completely", hint="remove the rest yourself")


def list_leftovers(name: ModelName | None = None) -> list[Path]:
    """Return the folders that interrupted conversions and removals have left: of one model, or of all."""
    root = store_root()
    found = []
    with suppress(OSError):
        for path in sorted(root.iterdir()):
            owner = leftover_name(path)
            if owner and (name is None or (owner.name == name.name and name.recipe in (None, owner.recipe))):
                found.append(path)
    return found


def leftover_name(path: Path) -> ModelName | None:
    """Return the model whose conversion or removal has left this folder; None if none has."""
    for mark in (_PARTIAL, _REMOVED):
        before, found, process = path.name.rpartition(mark)
        if found and before.startswith(".") and is_process_name(process) and is_plain_folder(path):
            return None if is_alive(process) else ModelName.from_folder(before[1:])
    return None


def remove_leftovers(name: ModelName) -> int:
    """Remove what interrupted conversions of a model have left, and return how many folders those were."""
    found = list_leftovers(name)
    for path in found:
        remove(path)
    return len(found)


def _users(model: StoredModel) -> Iterator[str]:
    """Yield the programs of this user that have a file of the model's folder open or mapped, or that are commands of
    ours with the model as an argument: a server loads it again for the next request."""
    import psutil  # type: ignore[import-untyped]

    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter(["pid", "cmdline"]):
        if process.pid in ours:
            continue
        words = process.info["cmdline"] or []
        with suppress(psutil.Error, OSError):
            if _is_argument(words, model) or _has_open(process.pid, model.path):
                named = process.parent() if "-c" in words else process  # an engine is a child of the program
                command = " ".join((named or process).cmdline())
                yield f"process {(named or process).pid} ({one_line(command, _COMMAND_CHARACTERS)})"


def _is_argument(words: Sequence[str], model: StoredModel) -> bool:
    """Return whether a command line of ours has the model as an argument: FOLDER, NAME, or either after NAME=."""
    names = [index for index, word in enumerate(words) if Path(word).stem == "edge"]
    for word in words[names[0] + 1 :] if names else ():
        value = word.rpartition("=")[2]
        if value == str(model.path):
            return True
        found = ModelName.find(value)
        if found and found.name == model.name.name and found.recipe in (None, model.name.recipe):
            return True
    return False


if sys.platform == "linux":

    def _has_open(pid: int, path: Path) -> bool:
        """Return whether a process has a file below the folder open or mapped. Raises OSError for another user's."""
        below = os.fsencode(path) + b"/"
        with open(f"/proc/{pid}/maps", "rb") as maps:
            if below in maps.read():
                return True
        with os.scandir(f"/proc/{pid}/fd") as descriptors:
            return any(os.readlink(os.fsencode(one.path)).startswith(below) for one in descriptors)

else:

    def _has_open(pid: int, path: Path) -> bool:
        """Return whether a process has a file below the folder open. Windows refuses to rename such a folder."""
        import psutil

        if sys.platform == "win32":
            return False
        return any(Path(file.path).is_relative_to(path) for file in psutil.Process(pid).open_files())
