"""Stop strings: a reply ends before the first of them, in whatever pieces it streams in."""

from collections.abc import Sequence


class StopTexts:
    """A filter that passes text up to the first stop string. `found` is that string once it was met, "" until then."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.found = ""
        self._stops = stops
        self._pending = ""

    def feed(self, piece: str) -> str:
        """Return the text that can no longer be part of a stop string; keep the rest."""
        text = self._pending + piece
        places = [(place, stop) for stop in self._stops if (place := text.find(stop)) >= 0]
        end, self.found = min(places) if places else (self._certain(text), "")
        self._pending = "" if self.found else text[end:]
        return text[:end]

    def _certain(self, text: str) -> int:
        """Return how many characters cannot be part of a stop string."""
        return len(text) - max((overlap(text, stop) for stop in self._stops), default=0)

    def finish(self) -> str:
        """Return what was kept and turned out to be no stop string."""
        text, self._pending = self._pending, ""
        return text


def overlap(text: str, mark: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of `mark`."""
    return next(size for size in range(min(len(mark), len(text)), -1, -1) if text.endswith(mark[:size]))
