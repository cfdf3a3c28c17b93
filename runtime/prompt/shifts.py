"""Positions of a prompt with pictures, as shifts from the plain indices that the engine counts.

RoPE sees distances alone. All positions are therefore moved so that the tokens after the last picture, and those that
will be generated, stand at their index. A picture takes fewer positions than tokens, so what precedes one is shifted
onwards.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# A shift is base·a + b: bf16 and f16 represent both exactly, while they round the shift itself.
SHIFT_BASE = 128
MAX_SHIFT = SHIFT_BASE * 256 - 1  # bf16 counts to 256


def shift_numbers(rope_sections: Sequence[int]) -> int:
    """Return how many numbers stand in front of an embedding: a and b; with M-RoPE a and b for each axis, and before
    them the whole temporal shift: the engine's prefix cache tells embeddings apart by number 0 and a few others, and
    must not take tokens for those of another history at other positions."""
    return 7 if rope_sections else 2


def mrope_shifts(pieces: Sequence[int | tuple[int, int]]) -> "npt.NDArray[np.int64]":
    """Return the shifts (tokens, 3) of a prompt's tokens in time, height and width. A piece is a number of text tokens,
    or the height and width of a picture in tokens.

    All tokens of a picture have one time, and their row and column from there; the text goes on behind the longer
    side: `get_rope_index` of transformers' Glm4vModel. Raises RequestError for too many picture tokens.
    """
    import numpy as np

    spans: list[npt.NDArray[np.int64]] = []
    start = 0
    for piece in pieces:
        if isinstance(piece, int):
            spans.append(np.repeat(np.arange(start, start + piece, dtype=np.int64)[:, np.newaxis], 3, axis=1))
            start += piece
            continue
        height, width = piece
        rows, columns = np.divmod(np.arange(height * width, dtype=np.int64), width)
        spans.append(start + np.stack([np.zeros_like(rows), rows, columns], axis=1))
        start += max(height, width)
    positions = np.concatenate(spans) if spans else np.zeros((0, 3), np.int64)
    shifts = positions - np.arange(len(positions))[:, np.newaxis] + (len(positions) - start)
    if len(positions) and abs(shifts).max() > MAX_SHIFT:
        tokens = sum(piece[0] * piece[1] for piece in pieces if not isinstance(piece, int))
        raise RequestError(
            f"the chat's pictures are {tokens:,} tokens; at most {MAX_SHIFT:,} are supported",
            hint="send fewer or smaller pictures",
        )
    return shifts


def encode_shifts(shifts: "npt.NDArray[Any]") -> "npt.NDArray[np.float32]":
    """Return the numbers in front of the embeddings of tokens with these shifts: (tokens,) or (tokens, 3)."""
    import numpy as np

    pairs = np.stack(np.divmod(shifts, SHIFT_BASE), axis=-1).reshape(len(shifts), -1)
    return np.asarray(pairs if shifts.ndim == 1 else np.hstack([shifts[:, :1], pairs]), np.float32)
