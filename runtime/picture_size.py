"""The size that a model resizes a picture to, where its proportions are kept and its size decides the tokens."""

import math
from dataclasses import dataclass

from .errors import RequestError

_MOST_ELONGATED = 200  # width over height, or height over width


@dataclass(frozen=True, slots=True)
class PictureSize:
    """The rule of transformers' `smart_resize` (models/glm4v): a token is a square of `factor` pixels, and `frames`
    equal pictures have `min_pixels` to `max_pixels` in sum."""

    factor: int
    frames: int
    min_pixels: int
    max_pixels: int

    @property
    def max_tokens(self) -> int:
        """The tokens of the largest picture."""
        return self.max_pixels // (self.frames * self.factor**2)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width in tokens of a picture of so many pixels. Raises RequestError for one that is too
        elongated."""
        factor, frames = self.factor, self.frames
        if height < factor or width < factor:
            scale = max(factor / height, factor / width)
            height, width = int(height * scale), int(width * scale)
        if max(height, width) / min(height, width) > _MOST_ELONGATED:
            raise RequestError(
                f"one side of a picture is over {_MOST_ELONGATED} times as long as the other", hint="send a part of it"
            )
        # Python rounds a half to the even number, as transformers does.
        rows, columns = round(height / factor), round(width / factor)
        pixels = frames * rows * columns * factor**2
        if pixels > self.max_pixels:
            shrink = math.sqrt(frames * height * width / self.max_pixels)
            rows = max(1, math.floor(height / shrink / factor))
            columns = max(1, math.floor(width / shrink / factor))
        elif pixels < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (frames * height * width))
            rows, columns = math.ceil(height * grow / factor), math.ceil(width * grow / factor)
        return rows, columns

    def pixels(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width in pixels that such a picture is resized to. Raises RequestError."""
        rows, columns = self.grid(height, width)
        return rows * self.factor, columns * self.factor
