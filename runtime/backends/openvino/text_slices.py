"""Splits a prompt's pieces into batches that a tokenizer encodes in some milliseconds each."""

import re
from collections.abc import Iterable, Iterator

_SLICE = 2**14  # characters
_PIECES = 256
# Between a letter and such a character every token ends: GLM-4's pattern takes letters as long as they come, and then
# begins anew. None of them stands in a special token, of which the template's own lie in these texts.
_BOUNDARY = re.compile(r"(?<=[^\W\d_])(?=[\t\n\r ,.;:!?()，。、！？；：（）])")
# Where a text has none for long, which no language does: inside a run that is too long for a part of a special token.
_ANYWHERE = re.compile(r"(?<=[^\x00-\x7f]{64})|(?<=[0-9A-Za-z]{64})|(?<=[^A-Za-z]{64})(?=[^A-Za-z]{8})")


def split_batches(pieces: Iterable[str]) -> Iterator[list[str]]:
    """Group pieces of similar length: the tokenizer pads a batch to its longest."""
    batch: list[str] = []
    longest = 0
    for text in split_text(pieces):
        longest = max(longest, len(text))
        if batch and (len(batch) == _PIECES or longest * (len(batch) + 1) > _SLICE):
            yield batch
            batch, longest = [], len(text)
        batch.append(text)
    if batch:
        yield batch


def split_text(pieces: Iterable[str]) -> Iterator[str]:
    """Split long pieces at token boundaries, so that the ids are those of the whole."""
    for piece in pieces:
        start = 0
        while len(piece) - start > 2 * _SLICE:
            cut = _BOUNDARY.search(piece, start + _SLICE, start + 2 * _SLICE) or _ANYWHERE.search(piece, start + _SLICE)
            if cut is None:
                break
            yield piece[start : cut.start()]
            start = cut.start()
        yield piece[start:]
