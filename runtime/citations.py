"""What an answer cites: passages of documents by [1], those of a tool's results by 【7†source】."""

import re
from collections.abc import Iterator

from .events import Citation, Documents, Event, ToolResult

MARK = re.compile(r"【(\d{1,6})†[^】\n]{0,100}】|\[(\d{1,6})\]")
MARK_OPENING, MARK_END = "【", "】"
MAX_MARK = 110  # characters


class CitedPassages:
    """The passages that an answer can cite, by number; of two with the same number the later one counts."""

    def __init__(self) -> None:
        self._documents: dict[int, Citation] = {}
        self._results: dict[int, Citation] = {}

    def take(self, event: Event) -> None:
        """Add the passages of an event of a reply."""
        if isinstance(event, Documents | ToolResult):
            found = self._documents if isinstance(event, Documents) else self._results
            found |= {citation.number: citation for citation in event.citations if citation.number}

    def find(self, mark: re.Match[str]) -> Citation | None:
        """Return the passage that a mark of an answer refers to."""
        first, second = (self._results, self._documents) if mark[1] else (self._documents, self._results)
        number = int(mark[1] or mark[2])
        return first.get(number) or second.get(number)

    def cited(self, text: str) -> Iterator[Citation]:
        """Yield the passages that a text cites, each once, in the order of the text."""
        found = (self.find(mark) for mark in MARK.finditer(text))
        yield from dict.fromkeys(citation for citation in found if citation is not None)
