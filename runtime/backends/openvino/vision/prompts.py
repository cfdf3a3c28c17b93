"""Encode the prompts of a vision model as token ids and embeddings, and reject settings that need token ids alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ....errors import BackendError, ModelFolderError, UnsupportedSetting
from ....folder.model_folder import CONVERT_AGAIN, ModelFolder
from ....pictures import Picture
from ....prompt.picture_tokens import picture_tokens
from ....sampling import SamplingParams
from ...backend import Options, Request
from ..logits.request import needed_settings
from ..prompt_input import Embeddings, PromptInput
from .embedding import embed, picture_ids, prompt_shifts
from .picture_reader import PictureReader, PictureReading
from .word_embeddings import WordEmbeddings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class VisionPrompts:
    """The table of word embeddings and the reader of pictures of a model folder."""

    def __init__(self, folder: ModelFolder, device: str, options: Options) -> None:
        if folder.manifest.vision is None:
            raise ModelFolderError(f"{folder.path} is no vision model", hint=CONVERT_AGAIN)
        self._tokens = picture_tokens(folder.manifest.vision)
        self._table = WordEmbeddings(folder.path)
        self._reader = PictureReader(folder, device, options, self._tokens)

    @property
    def token_bytes(self) -> int:
        """Bytes of a token's embedding."""
        return 4 * (self._tokens.numbers + self._table.width)

    def ids(self, picture: Picture) -> list[int]:
        """Return the ids of a picture's tokens. Raises RequestError."""
        return picture_ids(picture, self._tokens.count(picture))

    def read(self, request: Request, ids: Sequence[int]) -> PictureReading | None:
        """Begin to read the pictures of a request with these ids; None if it has none. Raises RequestError."""
        if not (pictures := _pictures(request)):
            return None
        prompt_shifts(ids, pictures, self._tokens)  # before anything that takes long
        return self._reader.read(pictures)

    def embed(
        self, request: Request, ids: Sequence[int], features: "Sequence[npt.NDArray[np.float32]]"
    ) -> tuple[list[int], PromptInput]:
        """Return the keys of a request's tokens in the prefix cache, and their embeddings with the `features` of its
        pictures. A token at another distance from the next ones has another key: its keys and values differ."""
        shifts = prompt_shifts(ids, _pictures(request), self._tokens)
        keys = [
            hash((id, *shift)) if any(shift) else id for id, shift in zip(ids, map(tuple, shifts.tolist()), strict=True)
        ]
        return keys, embed(ids, shifts, features, self._table)

    def close(self) -> None:
        """Release the tower."""
        self._reader.close()

    def blank(self, tokens: int) -> PromptInput:
        """Return embeddings of zeros."""
        import numpy as np

        return Embeddings(np.zeros((tokens, self._tokens.numbers + self._table.width), np.float32))


def _pictures(request: Request) -> list[Picture]:
    return [piece for piece in request.prompt if isinstance(piece, Picture)]


def require_vision_options(folder: ModelFolder, options: Options) -> None:
    """Raise BackendError for options that do not act on a vision model."""
    for name, given in (("prompt lookup", options.lookup not in (0, "auto")), ("LoRA adapters", options.adapters)):
        if given:
            raise BackendError(
                f"{name} cannot be used with {folder.name}, a vision model, on OpenVINO", hint="leave it out"
            )


def require_vision_settings(sampling: SamplingParams) -> None:
    """Raise UnsupportedSetting for a setting that needs the prompt's ids, or logits: the engine is given embeddings."""
    names = needed_settings(sampling)
    if sampling.repetition_penalty != 1.0:
        names.append("repetition_penalty")
    for name in names:
        raise UnsupportedSetting(
            f"{name} is not supported with a vision model on OpenVINO", hint=f"leave out {name}", setting=name
        )
