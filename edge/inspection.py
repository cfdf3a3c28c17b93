"""Inspection of a model folder: its manifest, and the hashes of its files."""

import os

from runtime.folder.integrity import record_verified
from runtime.folder.model_folder import ModelFolder


def inspect(folder: str | os.PathLike[str]) -> ModelFolder:
    """Open a model folder and compare every file with its recorded sha256; the same as `edge inspect`. Reads all of it:
    seconds for 9B. `ModelFolder.open` opens a folder without the hashes.

    Raises ModelFolderError if the folder is missing, damaged, or made by a later version.

    Example:
        folder = edge.inspect("./glm4-int4")
        print(folder.name, folder.recipe, folder.context_length, f"{folder.size / 1e9:.1f} GB")
    """
    found = ModelFolder.open(folder)
    found.verify_manifest()
    found.verify()
    record_verified(found)
    return found
