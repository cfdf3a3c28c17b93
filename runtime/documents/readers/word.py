"""DOCX by python-docx: sections are headings.

Macros and links are not read.
"""

from typing import TYPE_CHECKING, Any

from ..archive import check_archive
from ..document import Document, Section
from ..limits import Budget
from .word_parts import WordParts

if TYPE_CHECKING:
    from docx.document import Document as WordDocument

_WITH_MACROS = "application/vnd.ms-word.document.macroEnabled.main+xml"
_TITLE = 200  # characters
_DEPTH = 20  # of tables in tables


def read(name: str, data: bytes, budget: Budget) -> Document:
    """Read paragraphs and tables in their order, with their notes, text boxes and charts, then headers and footers."""
    from docx.opc.part import PartFactory
    from docx.package import Package
    from docx.parts.document import DocumentPart
    from docx.table import Table

    PartFactory.part_type_for[_WITH_MACROS] = DocumentPart  # in this process alone
    package = Package.open(check_archive(data, budget.limits))
    document: WordDocument = package.main_document_part.document
    parts = WordParts(document, budget.notes)
    sections, place, lines = [], "", list[str]()
    for block in document.iter_inner_content():
        if budget.exhausted(place):
            break
        if isinstance(block, Table):
            text, heading = "\n".join(_rows(block, 0)), False
        else:
            text, heading = block.text.strip(), _is_heading(block)
        text = budget.spend(text, place)
        if heading and text:
            if lines:
                sections.append(Section(place, "\n".join(lines)))
            place, lines = " ".join(text.split())[:_TITLE], []
        if text:
            lines.append(text)
        lines += filter(None, (budget.spend(one, place) for one in parts.beside(block._element)))
    if lines:
        sections.append(Section(place, "\n".join(lines)))
    for place, text in parts.headers_and_footers():
        if not budget.exhausted(place) and (text := budget.spend(text, place)):
            sections.append(Section(place, text))
    return Document(name, tuple(sections), (document.core_properties.title or "")[:_TITLE])


def _is_heading(paragraph: Any) -> bool:
    style = paragraph.style
    return style is not None and (style.name or "").startswith(("Heading", "Title"))


def _rows(table: Any, depth: int) -> list[str]:
    """Return the rows of a table as lines, its cells between bars."""
    if depth > _DEPTH:
        return []
    lines = []
    for row in table.rows:
        cells = []
        for cell in row.cells:
            inner = [line for one in cell.tables for line in _rows(one, depth + 1)]
            cells.append(" ".join(" ".join([cell.text, *inner]).split()))
        merged = [
            cell
            for index, cell in enumerate(cells)
            if index == 0 or row.cells[index]._tc is not row.cells[index - 1]._tc
        ]
        lines.append(" | ".join(merged))
    return [line for line in lines if line.strip(" |")]
