"""The tokens of pictures: how many one takes, the size that it is read in, and the positions of a prompt that has some.

The engine counts positions one by one. RoPE sees distances alone, so any other rule is a *shift* of each token from its
index, with which its embedding begins; the tokens after the last picture, and those that are generated, have none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..errors import ModelFolderError
from ..folder.manifest import VisionRecord
from ..folder.model_folder import CONVERT_AGAIN
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
class ScaledPictureTokens:
    """Pictures that keep their proportions: their size decides the tokens, whose positions are those of M-RoPE in time,
    height and width: GLM-4.1V and GLM-4.6V-Flash."""

    rule: PictureSize
    numbers: int = 7

    def size(self, picture: Picture) -> tuple[int, int]:
        """Return the size that the rule gives. Raises RequestError for a picture that is too elongated."""
        return self.rule.pixels(picture.height, picture.width)

    def count(self, picture: Picture) -> int:
        """Return the tokens of that size. Raises RequestError."""
        rows, columns = self.rule.grid(picture.height, picture.width)
        return rows * columns

    def shifts(self, pieces: Sequence[int | Picture]) -> "npt.NDArray[np.float32]":
        """Return seven numbers for each token: `encode_shifts` of three axes. Raises RequestError for too many tokens
        of pictures."""
        spans = [piece if isinstance(piece, int) else self.rule.grid(piece.height, piece.width) for piece in pieces]
        return encode_shifts(mrope_shifts(spans))


_KINDS: Mapping[str, Callable[[VisionRecord], PictureTokens]] = {
    "glm4v": lambda vision: SquarePictureTokens(vision.image_size, vision.tokens),
    "glm4_1v": lambda vision: ScaledPictureTokens(_rule(vision)),
}


def _rule(vision: VisionRecord) -> PictureSize:
    size = vision.picture_size
    if size is None or size.factor < 1 or size.frames < 1 or not 0 < size.min_pixels <= size.max_pixels:
        raise ModelFolderError("the manifest has no rule for the sizes of pictures", hint=CONVERT_AGAIN)
    return size


def picture_tokens(vision: VisionRecord) -> PictureTokens:
    """Return the rules of a model folder's tower. Raises ModelFolderError for a kind that is unknown."""
    if vision.tower not in _KINDS:
        raise ModelFolderError(
            f"unknown image tower {quoted(vision.tower)}",
            hint="the folder was made by a later version: upgrade glm4-edge",
        )
    return _KINDS[vision.tower](vision)
