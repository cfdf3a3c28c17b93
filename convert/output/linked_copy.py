"""A copy of a folder's files that takes no room: hard links, or symbolic links across disks, or else copies."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from runtime.checkpoint.files.small_files import resolve_file


def link_export(folder: Path, patterns: Iterable[str], copy: Path) -> None:
    """Link the files of an exported model that match the patterns into the folder `copy`. A graph may be a link to
    elsewhere. Raises CheckpointError if a text is a link out of the folder, and OSError."""
    found = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    for path in found:
        resolve_file(folder, path.name, within=not path.name.startswith("openvino_"))
    link_files(found, copy)


def link_files(files: Iterable[Path], folder: Path) -> None:
    """Link each file into `folder`, under its own name: to the file itself where it is a link. Raises OSError."""
    for file in files:
        source, copy = file.resolve(), folder / file.name
        for make in (os.link, os.symlink, shutil.copyfile):
            try:
                make(source, copy)
                break
            except OSError:  # another disk, a file system without links, Windows without the right to make them
                if make is shutil.copyfile:
                    raise
