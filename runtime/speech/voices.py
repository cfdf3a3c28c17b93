"""The voices of a text-to-speech model: the engine's own, and those whose speaker embeddings are in the folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelFolderError, RequestError
from ..system.files import read_bounded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEFAULT_VOICE = "default"
_PREFIX, _SUFFIX = "voice_", ".bin"
_DIMENSIONS = 512  # of a speaker embedding, an x-vector


def list_voices(folder: Path) -> list[str]:
    """Return the names of the voices of a folder: "default", and NAME for each voice_NAME.bin."""
    found = (path.name[len(_PREFIX) : -len(_SUFFIX)] for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"))
    return [DEFAULT_VOICE, *sorted(found)]


def read_voice(folder: Path, name: str) -> "npt.NDArray[np.float32] | None":
    """Return a speaker embedding, None for the engine's own. Raises RequestError for an unknown name, ModelFolderError
    for a damaged file."""
    import numpy as np

    if name == DEFAULT_VOICE:
        return None
    if name not in (known := list_voices(folder)):
        raise RequestError(f"there is no voice {name[:80]!r}", hint=f"the voices are {', '.join(known)}")
    path = folder / f"{_PREFIX}{name}{_SUFFIX}"
    try:
        content = read_bounded(path, 4 * _DIMENSIONS)
    except OSError as exc:
        raise ModelFolderError(f"{path} cannot be read: {exc.strerror or exc}", hint="copy it again") from exc
    found = np.frombuffer(content, "<f4") if len(content) == 4 * _DIMENSIONS else np.full(1, np.nan, np.float32)
    if not np.isfinite(found).all():
        raise ModelFolderError(f"{path} has to have {_DIMENSIONS} float32 numbers", hint="make it again")
    return found.astype(np.float32)
