"""The user's folders in which we keep things that nobody gave a place: platformdirs' own, private to the user."""

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import RequestError

APPLICATION = "glm4-edge"
_PRIVATE = 0o700


def cache_folder() -> Path:
    """Return the folder of caches. Raises RequestError if the user has no home folder, as the others do."""
    from platformdirs import user_cache_path

    return _existing_home(user_cache_path)


def data_folder() -> Path:
    """Return the folder of data that takes long to make again, such as models."""
    from platformdirs import user_data_path

    return _existing_home(user_data_path)


def state_folder() -> Path:
    """Return the folder of what one run leaves for the next, such as the history of messages."""
    from platformdirs import user_state_path

    return _existing_home(user_state_path)


def history_file() -> Path:
    """Return the file of the messages that were typed in a terminal."""
    return state_folder() / "chat_history"


def pictures_folder() -> Path:
    """Return the folder of the pictures that tools have returned in a terminal."""
    return data_folder() / "pictures"


def log_folder() -> Path:
    """Return the folder of log files."""
    from platformdirs import user_log_path

    return _existing_home(user_log_path)


def make_private(folder: Path) -> Path:
    """Create a folder that only the user may enter, also where it exists with a wider mode, and return it. Windows
    keeps the user's folders from other users by itself. Raises OSError."""
    folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    if os.name == "posix" and folder.stat().st_mode & 0o077:
        folder.chmod(_PRIVATE)
    return folder


def _existing_home(locate: Callable[..., Path]) -> Path:
    try:
        found = locate(APPLICATION, appauthor=False)
    except RuntimeError:
        found = Path("~")
    if found.parts[:1] == ("~",):  # older versions of platformdirs
        raise RequestError("this user has no home folder", hint="set HOME (USERPROFILE on Windows) to a folder")
    return found
