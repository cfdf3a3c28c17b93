"""XLSX by openpyxl: sections are sheets, places are rows.

Formulas give the values that the program stored; macros and links to other files are not read.
"""

import datetime
import re
from typing import Any

from ..archive import check_archive
from ..document import Document, Section
from ..limits import Budget

_CHECK = 200  # rows between two looks at the limits
_TITLE = 200  # characters
_EMPTY = re.compile(r"(?: \| ?){9,}")  # cells


def read(name: str, data: bytes, budget: Budget) -> Document:
    """Read the cells of the sheets, a line for each row, with bars between the cells."""
    from openpyxl import load_workbook

    book = load_workbook(check_archive(data, budget.limits), read_only=True, data_only=True, keep_links=False)
    sections = []
    for index, sheet in enumerate(book.worksheets):
        place = f"sheet {sheet.title}"
        if index >= budget.limits.pages:
            budget.notes.append(f"only the first {budget.limits.pages:,} sheets were read")
            break
        if budget.exhausted(place):
            break
        sheet.reset_dimensions()  # a file may declare a million rows of 16,384 cells
        sections += _rows(sheet, place, budget)
    return Document(name, tuple(sections), (book.properties.title or "")[:_TITLE])


def _rows(sheet: Any, place: str, budget: Budget) -> list[Section]:
    """Return the rows in sections: an empty row ends one."""
    sections, lines, first = list[Section](), list[str](), 1

    def flush() -> None:
        if lines:
            sections.append(Section(place, "\n".join(lines), "row", first))
            lines.clear()

    for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        if number % _CHECK == 0 and budget.exhausted(f"{place}, row {number}"):
            break
        text = _EMPTY.sub(" | … | ", " | ".join(map(_text, cells)).rstrip(" |"))
        if not text.strip(" |…"):
            flush()
            continue
        if not lines:
            first = number
        lines.append(budget.spend(text, f"{place}, row {number}"))
    flush()
    return sections


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.15g}"
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.date() | datetime.time():
            return value.isoformat()
    return " ".join(str(value).split())
