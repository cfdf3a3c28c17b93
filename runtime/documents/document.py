"""A document's text, in sections whose place a citation can name."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document. `place` is where it is, such as "page 3" or a heading; "" if the document has no parts.
    Where its lines have numbers, `unit` is what they are called and `first` the number of the first one.

    Example:
        document = edge.Document("minutes.txt", (edge.Section("page 1", "The meeting began at noon."),))
        print(chat.send("When did it begin?", documents=[document]))
    """

    place: str
    text: str
    unit: str = ""
    first: int = 1

    def place_of(self, line: int, lines: int) -> str:
        """Return the place of `lines` lines of the text, such as "Fares, lines 12-20". `line` is the first, from 0."""
        if not self.unit:
            return self.place
        first = self.first + line
        numbers = f"{self.unit} {first}" if lines == 1 else f"{self.unit}s {first}-{first + lines - 1}"
        return f"{self.place}, {numbers}" if self.place else numbers


@dataclass(frozen=True, slots=True)
class Document:
    """A document as a chat reads it: `edge.read_document` returns one, and `documents=` of a chat accepts it.

    `title` is "" if it has none. `notes` say what could not be read, such as scanned pages.

    Example:
        document = edge.read_document(("fares.md", b"# Fares\\n\\nA crossing costs 12 crowns."))
        print(document.sections[0].place, document.text)
    """

    name: str
    sections: tuple[Section, ...]
    title: str = ""
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole text. A line such as "[page 3]" precedes each page, slide or sheet."""
        parts, before = list[str](), ""
        for one in self.sections:
            parts.append(f"[{one.place}]\n{one.text}" if is_numbered(one.place) and one.place != before else one.text)
            before = one.place
        return "\n\n".join(parts)


def is_numbered(place: str) -> bool:
    """Return whether the place is a page, slide or sheet, which the text itself does not name. A heading is part of its
    section's text."""
    return place.startswith(("page ", "slide ", "sheet "))
