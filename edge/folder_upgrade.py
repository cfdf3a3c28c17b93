"""The upgrade of a model folder: its manifest gets the fields that an earlier version of glm4-edge did not write."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from runtime import strict_json
from runtime.errors import ModelFolderError
from runtime.folder.integrity import record_verified
from runtime.folder.model_folder import MANIFEST, ModelFolder, write_manifest
from runtime.source import stop_tokens

from .inspection import inspect

# The format is 1 still: what differs is fields that were added to it, each made of what the folder has.
_FIELDS: Mapping[str, Callable[[ModelFolder], Any]] = MappingProxyType(
    {
        "stop_tokens": stop_tokens,
        "sampling": lambda folder: folder.sampling().recommended(),
    }
)


def upgrade(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Bring a model folder up to this version, and return the names of what its manifest got: "sha256" is that of the
    manifest itself. () if it is up to date. The hashes of all files are checked before; no other file changes.

    Raises ModelFolderError if the folder is missing, damaged, made by a later version, or cannot be written.
    """
    found = inspect(folder)
    manifest = found.manifest
    changes = {name: derive(found) for name, derive in _FIELDS.items() if getattr(manifest, name) in (None, ())}
    changes = {name: value for name, value in changes.items() if value != getattr(manifest, name)}
    added = list(changes)
    if "sha256" not in strict_json.parse((found.path / MANIFEST).read_bytes()):
        added.append("sha256")
    if added:
        try:
            record_verified(write_manifest(found.path, replace(manifest, **changes), manifest.files))
        except OSError as exc:
            raise ModelFolderError(
                f"{found.path / MANIFEST} cannot be written: {exc.strerror}", hint="check the folder's mode and disk"
            ) from exc
    return tuple(added)
