"""DocumentLimits on a document, which may be made to cost: bytes, pages, expansion, time and memory."""

import time
from dataclasses import dataclass, field


class UnreadableDocument(Exception):
    """A document that cannot be read: `reason` completes "NAME …", and `cure` says what to do."""

    def __init__(self, reason: str, cure: str = "open it in its program and save it again") -> None:
        super().__init__(reason, cure)
        self.reason = reason
        self.cure = cure


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """The limits of one document. A reader that has worked for `seconds` returns what it has read so far; its process
    is killed after `kill_seconds`, or above `memory` bytes."""

    file_bytes: int = 64 * 2**20
    characters: int = 8 * 2**20  # of the text
    pages: int = 2000  # of a PDF; slides, sheets
    sections: int = 20_000
    members: int = 5000  # of a zip archive, which a DOCX, PPTX or XLSX is
    expanded_bytes: int = 192 * 2**20  # of all members together
    seconds: float = 12.0
    kill_seconds: float = 20.0
    memory: int = 400 * 2**20


@dataclass(slots=True)
class Budget:
    """What is left of a document's limits while it is read, and the notes on what was left out."""

    limits: DocumentLimits = field(default_factory=DocumentLimits)
    notes: list[str] = field(default_factory=list)
    _characters: int = 0
    _ended: bool = False
    _start: float = field(default_factory=time.monotonic)

    def spend(self, text: str, where: str) -> str:
        """Return as much of the text as the limit on characters allows. `where` is the place at which reading ends."""
        left = max(self.limits.characters - self._characters, 0)
        self._characters += len(text)
        if len(text) > left:
            self._end(f"only the first {self.limits.characters:,} characters were read", where)
        return text[:left]

    def exhausted(self, where: str) -> bool:
        """Return whether reading has to end at `where`, and note why."""
        if self._characters >= self.limits.characters:
            self._end(f"only the first {self.limits.characters:,} characters were read", where)
        elif time.monotonic() - self._start > self.limits.seconds:
            self._end(f"reading took longer than {self.limits.seconds:g} seconds", where)
        return self._ended

    def _end(self, note: str, where: str) -> None:
        if not self._ended:
            self.notes.append(f"{note}, to {where}" if where else note)
        self._ended = True
