"""The tokens of pictures: how many one takes, the size that it is read in, and the positions of a prompt that has some.

The engine counts positions one by one. RoPE sees distances alone, so any other rule is a *shift* of each token from its
index, with which its embedding begins; the tokens after the last picture, and those that are generated, have none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Protocol

from ..errors import ModelFolderError
from ..folder.model_folder import CONVERT_AGAIN, VisionRecord
from ..picture_size import PictureSize
from ..pictures import Picture
from ..text import quoted
from .shifts import encode_shifts, mrope_shifts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class PictureTokens(Protocol):
    """The rules of one kind of tower."""

    @property
    def numbers(self) -> int:
        """How many numbers stand in front of an embedding."""
        ...

    def size(self, picture: Picture) -> tuple[int, int]:
        """Return the height and width in pixels to which the picture is resized. Raises RequestError."""
        ...

    def count(self, picture: Picture) -> int:
        """Return how many tokens the tower makes of the picture. Raises RequestError."""
        ...

    def shifts(self, pieces: Sequence[int | Picture]) -> "npt.NDArray[np.float32]":
        """Return the numbers in front of a prompt's embeddings, of shape [tokens, numbers]. A piece is a number of text
        tokens, or a picture. Raises RequestError."""
        ...


@dataclass(frozen=True, slots=True)
class SquarePictureTokens:
    """Pictures of one size, whatever their proportions. All tokens between the first and the last, which mark the
    picture's begin and end, stand in one position: GLM-4V."""

    side: int
    tokens: int
    numbers: int = 2

    def size(self, picture: Picture) -> tuple[int, int]:
        """Return the one size."""
        return self.side, self.side

    def count(self, picture: Picture) -> int:
        """Return the one number."""
        return self.tokens

    def shifts(self, pieces: Sequence[int | Picture]) -> "npt.NDArray[np.float32]":
        """Return two numbers for each token: its shift is 128 times the first and the second."""
        import numpy as np

        steps = [np.zeros(0, np.int64)]  # by how much each token's position is above that of the one before
        for piece in pieces:
            step = np.ones(piece if isinstance(piece, int) else self.tokens, np.int64)
            if not isinstance(piece, int):
                step[2:-1] = 0
            steps.append(step)
        positions = np.cumsum(np.concatenate(steps)) - 1
        index = np.arange(len(positions))
        return encode_shifts(positions - index - (positions[-1:] - index[-1:]))


@dataclass(frozen=True, slots=True)
class SizedPictureTokens:
    """Pictures that keep their proportions, in positions of three axes: GLM-4.1V and GLM-4.6V."""

    rule: PictureSize
    numbers: int = 7

    def size(self, picture: Picture) -> tuple[int, int]:
        """Return the size in multiples of a token's. Raises RequestError for a picture that is too elongated."""
        return self.rule.pixels(picture.height, picture.width)

    def count(self, picture: Picture) -> int:
        """Return how many tokens a picture of that size has. Raises RequestError."""
        return prod(self.rule.grid(picture.height, picture.width))

    def shifts(self, pieces: Sequence[int | Picture]) -> "npt.NDArray[np.float32]":
        """Return seven numbers for each token: `shift_numbers` says which. Raises RequestError for too many."""
        grids = [p if isinstance(p, int) else self.rule.grid(p.height, p.width) for p in pieces]
        return encode_shifts(mrope_shifts(grids))


def _sized(vision: VisionRecord) -> PictureTokens:
    size = vision.picture_size
    if size is None or size.factor < 1 or size.frames < 1 or not 0 < size.min_pixels <= size.max_pixels:
        raise ModelFolderError("the manifest is damaged: it does not say the size of pictures", hint=CONVERT_AGAIN)
    return SizedPictureTokens(size)


_KINDS: Mapping[str, Callable[[VisionRecord], PictureTokens]] = {
    "glm4v": lambda vision: SquarePictureTokens(vision.image_size, vision.tokens),
    "glm4_1v": _sized,
}


def picture_tokens(vision: VisionRecord) -> PictureTokens:
    """Return the rules of a model folder's tower. Raises ModelFolderError for a kind that is unknown."""
    if vision.tower not in _KINDS:
        raise ModelFolderError(
            f"unknown image tower {quoted(vision.tower)}",
            hint="the folder was made by a later version: upgrade glm4-edge",
        )
    return _KINDS[vision.tower](vision)
