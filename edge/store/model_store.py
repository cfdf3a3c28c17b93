"""The model store: a folder of the user's with one folder for each converted model, NAME@RECIPE.

A model that is still being converted has another name until it is complete (`convert/output/scratch.py`). The variable
EDGE_MODELS names another folder.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runtime.errors import EdgeError, ModelFolderError, RequestError
from runtime.folder.model_folder import MANIFEST, ModelFolder
from runtime.system.files import expand_user, is_plain_folder
from runtime.system.user_folders import data_folder
from runtime.text import quoted

from .model_name import ModelName

STORE_VARIABLE = "EDGE_MODELS"
_PREFERRED = ("int4-fit", "int4", "stored")  # recipes, where a name stands for several models


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model of the store. `damage` says why its folder cannot be read; "" if it can."""

    name: ModelName
    path: Path
    size: int = 0
    licence: str = ""
    created: datetime | None = None
    damage: str = ""


def store_root() -> Path:
    """Return the folder of the store, which need not exist. Raises RequestError if the user has no home folder and
    STORE_VARIABLE is unset."""
    if given := os.environ.get(STORE_VARIABLE):
        return expand_user(given).absolute()
    try:
        return data_folder() / "models"
    except RequestError:
        raise RequestError(
            "this user has no home folder for models", hint=f"name another in {STORE_VARIABLE}"
        ) from None


def list_models() -> list[StoredModel]:
    """Return the models of the store, by name. Raises RequestError."""
    return sorted(map(_describe, _folders()), key=lambda model: str(model.name).lower())


def find_model(name: ModelName) -> StoredModel | None:
    """Return the model of the store with this name and recipe. A name without a recipe means the model of a default
    recipe, or the only one. Returns None if there is none; raises RequestError if several could be meant."""
    found = {own.recipe: path for path in _folders() if (own := _own_name(path)) and _is_same(own, name)}
    if not found:
        return None
    for recipe in (name.recipe,) if name.recipe else _PREFERRED:
        if recipe in found:
            return _describe(found[recipe])
    if len(found) > 1:
        raise RequestError(
            f"there are several models {name.name}", hint=f"choose one: {', '.join(f'{name.name}:{r}' for r in found)}"
        )
    return _describe(next(iter(found.values())))


def require_model(text: str) -> StoredModel:
    """Return the model of the store that a text names. Raises CheckpointError for a name that is none, RequestError if
    the model is not in the store."""
    name = ModelName.parse(text)
    if found := find_model(name):
        return found
    raise RequestError(
        f"{name} is not among your models", hint=f"`edge list` lists them, and `edge pull {name}` downloads this one"
    )


def find_folder(text: str | os.PathLike[str]) -> Path | None:
    """Return the folder of the model of the store that a text names; None if it is an existing path, or names none."""
    name = str(text)
    try:
        if expand_user(name).exists() or not (wanted := ModelName.find(name)):
            return None
        found = find_model(wanted)
    except (OSError, ValueError):
        return None
    return found.path if found else None


def resolve_folder(text: str) -> str:
    """Return the path of a model folder: `text` itself, or the folder of the model that it names in the store.

    Raises ModelFolderError for a model of the catalogue that is not in the store.
    """
    if found := find_folder(text):
        return str(found)
    name = None if expand_user(text).exists() else ModelName.find(text)
    if name and name.entry:
        raise ModelFolderError(
            f"there is no folder {quoted(text)}, and {name} is not among your models",
            hint=f"`edge pull {name}` downloads and converts it",
        )
    return text


def is_model_folder(text: str) -> bool:
    """Return whether a text is the path of a model folder, or of another folder that no model is called after."""
    path = expand_user(text)
    return (path / MANIFEST).is_file() or (path.is_dir() and ModelName.find(text) is None)


def _folders() -> Iterator[Path]:
    """Yield the folders of the store that have a model's name and a manifest."""
    root = store_root()
    try:
        paths = sorted(root.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        raise RequestError(
            f"the models in {root} cannot be listed: {exc.strerror}",
            hint=f"change its permissions, or set {STORE_VARIABLE} to another folder",
        ) from exc
    for path in paths:
        if not path.name.startswith(".") and is_plain_folder(path) and (path / MANIFEST).is_file() and _own_name(path):
            yield path


def _own_name(path: Path) -> ModelName | None:
    return ModelName.from_folder(path.name)


def _is_same(own: ModelName, wanted: ModelName) -> bool:
    return own.name.lower() == wanted.name.lower() and wanted.recipe in (None, own.recipe)


def _describe(path: Path) -> StoredModel:
    name = _own_name(path)
    if name is None:
        raise ValueError(f"{path} has no model's name")
    try:
        folder = ModelFolder.open(path)
        created = datetime.fromtimestamp((path / MANIFEST).stat().st_mtime, UTC)
    except (EdgeError, OSError) as exc:
        return StoredModel(name, path, damage=str(exc))
    return StoredModel(name, path, folder.size, folder.manifest.licence, created)
