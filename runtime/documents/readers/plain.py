"""Text, code, CSV and Markdown: sections are headings, places are lines."""

import re
from collections.abc import Iterator

from ..document import Document, Section
from ..encoding import decode
from ..limits import Budget

_HEADING = re.compile(r"[ ]{0,3}(#{1,6})[ \t]+(.{1,200})")
_FENCE = re.compile(r"[ ]{0,3}(```|~~~)")


def read(name: str, data: bytes, budget: Budget) -> Document:
    """Read a text as one section whose lines are numbered."""
    text = budget.spend(decode(data), "")
    return Document(name, (Section("", text, "line"),) if text.strip() else ())


def read_markdown(name: str, data: bytes, budget: Budget) -> Document:
    """Read Markdown: each heading begins a section. The first heading is the title."""
    sections = tuple(_sections(budget.spend(decode(data), "")))
    title = next((one.place for one in sections if one.place), "")
    return Document(name, sections, title)


def _sections(text: str) -> Iterator[Section]:
    place, first, lines, fence = "", 1, list[str](), ""
    for number, line in enumerate(text.split("\n"), start=1):
        if mark := _FENCE.match(line):
            fence = "" if fence == mark[1] else fence or mark[1]
        heading = None if fence else _HEADING.match(line)
        if heading:
            yield from _section(place, lines, first)
            place, first, lines = heading[2].strip().rstrip("#").strip(), number, []
        lines.append(line)
    yield from _section(place, lines, first)


def _section(place: str, lines: list[str], first: int) -> Iterator[Section]:
    while lines and not lines[0].strip():
        lines, first = lines[1:], first + 1
    if text := "\n".join(lines).rstrip():
        yield Section(place, text, "line", first)
