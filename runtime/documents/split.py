"""Split a document into passages, each with its place."""

from collections.abc import Iterator
from dataclasses import dataclass

from .document import Document


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a document, and its place in it."""

    place: str
    text: str


def split(document: Document, characters: int) -> Iterator[Passage]:
    """Yield passages of at most so many characters, cut between paragraphs or lines where possible. Short sections in
    sequence stay apart, so that each passage has one place."""
    for section in document.sections:
        line, counted = 0, 0
        for begin, end in _cuts(section.text, characters):
            line += section.text.count("\n", counted, begin)
            counted = begin
            text = section.text[begin:end]
            yield Passage(section.place_of(line, text.count("\n") + 1), text)


def _cuts(text: str, most: int) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of each piece, without blank lines and blanks around it."""
    end_of_text = len(text.rstrip())
    begin = _skip_blanks(text, 0)
    while end_of_text - begin > most:
        half, limit = begin + most // 2, begin + most
        cut = max(text.rfind("\n\n", half, limit), text.rfind("\n", half, limit))
        cut = cut if cut > 0 else limit
        yield begin, begin + len(text[begin:cut].rstrip())
        begin = _skip_blanks(text, cut)
    if begin < end_of_text:
        yield begin, end_of_text


def _skip_blanks(text: str, begin: int) -> int:
    while begin < len(text) and text[begin].isspace():
        begin += 1
    return begin
