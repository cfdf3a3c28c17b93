"""Documents in the terminal: those that go with the next message, and what the message contains of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .output import print_text

if TYPE_CHECKING:
    from runtime.documents.document import Document
    from runtime.messages import Documents

_SHOWN = 12  # places


class DocumentQueue:
    """The documents that wait for the next message: files of the command line, and of /file. Raises RequestError for
    one that cannot be read."""

    def __init__(self, paths: Sequence[str]) -> None:
        from runtime.documents.reader import read_document

        self._waiting: list[Document] = [read_document(path) for path in paths]

    def add(self, path: str) -> None:
        """Read a document, and tell what it is."""
        from runtime.documents.reader import read_document

        document = read_document(path.strip("\"'"))
        self._waiting.append(document)
        print_text(f"{document.name}, {len(document.text):,} characters, goes with the next message.")
        for note in document.notes:
            print_text(note)

    def take(self) -> tuple["Document", ...]:
        """Return the documents for a message, and forget them."""
        taken, self._waiting = tuple(self._waiting), []
        return taken


def describe_documents(event: "Documents") -> str:
    """Return a line for each document of a message: that it is there as a whole, or the places of its passages."""
    places: dict[str, list[str]] = {}
    whole = set()
    for citation in event.citations:
        places.setdefault(citation.document, []).append(f"[{citation.number}] {citation.place}".rstrip())
        if not citation.number:
            whole.add(citation.document)
    lines = list(event.notes)
    for name, found in places.items():
        more = ", …" if len(found) > _SHOWN else ""
        lines.append(f"{name}: " + ("read as a whole" if name in whole else f"{', '.join(found[:_SHOWN])}{more}"))
    return "\n".join(lines)
