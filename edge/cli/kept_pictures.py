"""The pictures of tools' results in the terminal, such as plots: each is kept as a file, and a line says where."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import RequestError
from runtime.system.files import write_atomically
from runtime.system.user_folders import make_private, pictures_folder

if TYPE_CHECKING:
    from runtime.pictures import Picture


def keep_pictures(pictures: "Sequence[Picture]") -> Iterator[str]:
    """Write each picture into the user's own folder, and yield a line that says where it is, or why it is not there."""
    for picture in pictures:
        try:
            yield f"→ picture, {picture.width} x {picture.height}: {_write(picture)}"
        except (OSError, RequestError) as exc:
            yield f"→ a picture that cannot be kept: {getattr(exc, 'strerror', None) or exc}"


def _write(picture: "Picture") -> Path:
    """Write a file for its owner alone, and return its path. The same picture in the same second is one file."""
    suffix = picture.media_type.rpartition("/")[2]
    path = make_private(pictures_folder()) / f"{datetime.now():%Y-%m-%d-%H%M%S}-{picture.sha256[:8]}.{suffix}"
    write_atomically(path, picture.data, private=True)
    return path
