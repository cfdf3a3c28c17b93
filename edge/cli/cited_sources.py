"""The citations of a reply in the terminal: numbers in its text, and what they refer to below it."""

from runtime.citations import MARK, MARK_END, MARK_OPENING, MAX_MARK, CitedPassages
from runtime.events import Citation, Event
from runtime.text import one_line


class CitedSources:
    """The passages of a chat, and those of them that its latest reply cites."""

    def __init__(self) -> None:
        self._passages = CitedPassages()
        self._pending = ""  # the beginning of a mark
        self._text = ""

    def take(self, event: Event) -> None:
        """Add the passages of an event."""
        self._passages.take(event)

    def read(self, piece: str) -> str:
        """Return a piece of the answer, with [7] for 【7†source】. What may be the beginning of a mark waits."""
        text = self._pending + piece
        self._text += piece
        begin = text.rfind(MARK_OPENING)
        is_open = begin >= 0 and MARK_END not in text[begin:] and "\n" not in text[begin:]
        cut = begin if is_open and len(text) - begin <= MAX_MARK else len(text)
        self._pending = text[cut:]
        return MARK.sub(lambda mark: f"[{mark[1] or mark[2]}]" if self._passages.find(mark) else mark[0], text[:cut])

    def flush(self) -> str:
        """Return what still waits."""
        rest, self._pending = self._pending, ""
        return rest

    def describe(self) -> str:
        """Return a line for each passage that the reply cites, and begin with the next reply."""
        text, self._text = self._text, ""
        return "\n".join(map(_describe, self._passages.cited(text)))


def _describe(citation: Citation) -> str:
    place = f", {citation.place}" if citation.place else ""
    return f"[{citation.number}] {one_line(f'{citation.document}{place}')}"
