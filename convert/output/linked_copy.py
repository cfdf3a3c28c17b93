"""A copy of a folder's files that takes no room: hard links, or symbolic links across disks, or else copies."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path


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
