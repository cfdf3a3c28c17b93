"""The names by which requests choose a model: its own, its checkpoint's, and aliases, in any case, with ":latest"."""

import os
from collections.abc import Mapping
from pathlib import Path

from runtime.errors import RequestError
from runtime.system.files import expand_user
from runtime.text import quoted, replace_surrogates

_TAG = ":latest"  # Ollama's default tag, which its clients add


class ModelNames:
    """The names of a server's models. No two models have names that differ only in case."""

    def __init__(self) -> None:
        self._models: dict[str, str] = {}  # the models' own names, by each name's normalized form
        self._checkpoints: dict[str, str] = {}
        self._aliases: dict[str, str] = {}

    @property
    def aliases(self) -> Mapping[str, str]:
        """The models' names by alias."""
        return self._aliases

    def add(self, name: str, checkpoint: str) -> None:
        """Add a model with the name of its checkpoint, which is that of the first model made from it. Raises
        RequestError if another model has the name."""
        if _normalize(name) in self._models:
            raise RequestError(f"two models are named {name}", hint="rename one: edge serve NAME=FOLDER")
        self._models[_normalize(name)] = name
        self._checkpoints.setdefault(_normalize(checkpoint), name)

    def replace(self, name: str, checkpoint: str) -> None:
        """Let a model that has another checkpoint now be found by the name of that one, and no more by the old one."""
        self._checkpoints = {key: model for key, model in self._checkpoints.items() if model != name}
        self._checkpoints.setdefault(_normalize(checkpoint), name)

    def add_alias(self, alias: str, name: str) -> None:
        """Add another name of a model; of the first one if `name` is "". Raises RequestError if there is no such model,
        or if the alias is a model's name."""
        target = self.find(name) if name else next(iter(self._models.values()), None)
        if target is None:
            raise RequestError(
                f"the alias {quoted(alias)} is for {quoted(name)}, which is not served here",
                hint=f"the models are {', '.join(self._models.values())}",
            )
        if not alias or _normalize(alias) in self._models:
            raise RequestError(f"the alias {quoted(alias)} is a model's name", hint="choose another alias")
        self._models[_normalize(alias)] = target
        self._aliases[alias] = target

    def find(self, name: str) -> str | None:
        """Return the model's own name; None if no model is meant."""
        key = _normalize(name)
        return self._models.get(key) or self._checkpoints.get(key)


def _normalize(name: str) -> str:
    return name.strip().casefold().removesuffix(_TAG)


def parse_folder(text: str) -> tuple[str, str]:
    """Parse FOLDER or NAME=FOLDER, and return the model's name and its folder. The default name is that of the folder,
    or of the link to it."""
    name, equals, path = text.partition("=")
    if equals and name and path and not any(char in name for char in "/\\") and not expand_user(text).exists():
        return name, path
    return folder_name(text), text


def folder_name(path: str | Path) -> str:
    """Return the name of a folder, or of the link to it, as JSON can have it."""
    return replace_surrogates(Path(os.path.abspath(expand_user(path))).name)
