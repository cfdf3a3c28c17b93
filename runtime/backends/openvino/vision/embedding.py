"""The ids and embeddings of a prompt with pictures."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ....pictures import Picture
from ....prompt.picture_tokens import PictureTokens
from ..prompt_input import Embeddings
from .word_embeddings import WordEmbeddings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_ID_BITS = 62


def picture_ids(picture: Picture, count: int) -> list[int]:
    """Return ids for the tokens of a picture. They are negative, and those of another picture differ: a prompt's ids
    tell which part of it is in the prefix cache."""
    start = -(int(picture.sha256, 16) % (1 << _ID_BITS)) - count
    return list(range(start, start + count))


def prompt_shifts(ids: Sequence[int], pictures: Sequence[Picture], tokens: PictureTokens) -> "npt.NDArray[np.float32]":
    """Return the numbers in front of a prompt's embeddings. Raises RequestError for pictures that take too many
    positions."""
    left = list(pictures)
    pieces: list[int | Picture] = []
    for is_picture, group in groupby(ids, lambda id: id < 0):
        length = len(list(group))
        if not is_picture:
            pieces.append(length)
        while is_picture and length:  # one picture may follow another
            picture = left.pop(0)
            pieces.append(picture)
            length -= tokens.count(picture)
    return tokens.shifts(pieces)


def embed(
    ids: Sequence[int],
    shifts: "npt.NDArray[np.float32]",
    features: "Sequence[npt.NDArray[np.float32]]",
    table: WordEmbeddings,
) -> Embeddings:
    """Return the embeddings of a prompt, with the features of its pictures in their places."""
    import numpy as np

    known = np.array(ids, np.int64)
    words = known >= 0
    rows = np.empty((len(ids), table.width), np.float32)
    rows[words] = table.rows(known[words])
    if features:
        rows[~words] = np.concatenate(list(features))
    return Embeddings(np.concatenate([shifts, rows], axis=1))
