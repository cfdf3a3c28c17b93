"""Documents and pictures in the terminal: those that go with the next message, and what it contains of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .output import print_text

if TYPE_CHECKING:
    from runtime.documents.document import Document
    from runtime.events import Documents
    from runtime.pictures import Picture

_SHOWN = 12  # places


class Attachments:
    """What goes with the next message: files and pictures of the command line, of /file and of /picture. Raises
    RequestError for one that cannot be read."""

    def __init__(self, documents: Sequence[str] = (), pictures: Sequence[str] = ()) -> None:
        from runtime.documents.reader import read_document
        from runtime.pictures import to_pictures

        self.documents: list[Document] = [read_document(path) for path in documents]
        self.pictures: list[Picture] = list(to_pictures(list(pictures)))

    def add_document(self, path: str) -> None:
        """Read a document, and print what it is."""
        from runtime.documents.reader import read_document

        document = read_document(path.strip("\"'"))
        self.documents.append(document)
        print_text(f"{document.name}, {len(document.text):,} characters, goes with the next message.")
        for note in document.notes:
            print_text(note)

    def add_picture(self, path: str) -> None:
        """Read a picture, and print its size."""
        from runtime.pictures import Picture

        picture = Picture.open(path.strip("\"'"))
        self.pictures.append(picture)
        print_text(f"{path}, {picture.width} x {picture.height}, goes with the next message.")

    def clear(self) -> None:
        """Forget all of it."""
        self.documents.clear()
        self.pictures.clear()


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
