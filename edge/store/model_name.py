"""The names of models as people type them: glm-4-9b-0414, glm4:9b, z1-9b, OWNER/NAME, each with or without :RECIPE."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Self

from runtime.errors import CheckpointError
from runtime.text import quoted

from ..catalogue import CatalogueEntry, find_entry, names
from ..import_path import require_own_package

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_MARK = "@"  # between the name and the recipe in a folder's name: no character of either, and allowed by Windows
_GGUF_HINT = "`edge convert REPOSITORY:FILE.gguf FOLDER` converts a GGUF file"


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model of the hub: its `name`, which is the catalogue's or OWNER/NAME, and a recipe. None is any recipe."""

    name: str
    recipe: str | None = None

    @classmethod
    def find(cls, text: str) -> Self | None:
        """Return what a text names; None if it cannot be a model's name."""
        require_own_package("convert")
        from convert.recipe import RECIPES

        text = text.strip()
        if name := _find(text):
            return cls(name)
        base, colon, recipe = text.rpartition(":")
        if colon and recipe.lower() in RECIPES and (name := _find(base)):
            return cls(name, recipe.lower())
        return None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a text names. Raises CheckpointError, with the closest names as its hint."""
        if found := cls.find(text):
            return found
        if text.lower().endswith(".gguf"):
            raise CheckpointError(f"{quoted(text)} is a GGUF file, and the store has none", hint=_GGUF_HINT)
        base = text.rpartition(":")[0] or text
        close = get_close_matches(base.lower().split("/")[-1], names(), n=6)
        near = tuple(dict.fromkeys(entry.name for name in close if (entry := find_entry(name))))[:3]
        raise CheckpointError(
            f"there is no model called {quoted(text)}",
            hint=f"did you mean {' or '.join(near)}? `edge models` lists all"
            if near
            else "`edge models` lists them; another model of the hub is OWNER/NAME",
        )

    @classmethod
    def from_folder(cls, folder: str) -> Self | None:
        """Return the model that a folder of the store is named for; None if it is not one of the store's names."""
        name, mark, recipe = folder.rpartition(_MARK)
        return cls(name.replace("--", "/", 1), recipe) if mark and name and recipe else None

    @property
    def entry(self) -> CatalogueEntry | None:
        """The model's entry in the catalogue; None if it has none."""
        return find_entry(self.name)

    @property
    def folder(self) -> str:
        """The name of the model's folder. Raises ValueError without a recipe."""
        if self.recipe is None:
            raise ValueError(f"{self.name} has no recipe")
        return f"{self.name.replace('/', '--', 1)}{_MARK}{self.recipe}"

    def __str__(self) -> str:
        return self.name if self.recipe is None else f"{self.name}:{self.recipe}"


def _find(text: str) -> str:
    if entry := find_entry(text):
        return entry.name
    return text if _REPOSITORY.fullmatch(text) and ".." not in text and "--" not in text else ""
