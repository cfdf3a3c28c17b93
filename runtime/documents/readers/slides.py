"""PPTX by python-pptx: sections are slides, with their notes. Macros, links and media are not read."""

from collections.abc import Iterator
from typing import Any

from ..archive import check_archive
from ..document import Document, Section
from ..limits import Budget

_TITLE = 200  # characters
_DEPTH = 20  # of groups in groups


def read(name: str, data: bytes, budget: Budget) -> Document:
    """Read the text of the slides: shapes, tables and speaker's notes."""
    from pptx import Presentation

    presentation = Presentation(check_archive(data, budget.limits))
    sections = []
    for number, slide in enumerate(presentation.slides, start=1):
        place = f"slide {number}"
        if number > budget.limits.pages:
            budget.notes.append(f"only the first {budget.limits.pages:,} slides were read")
            break
        if budget.exhausted(place):
            break
        lines = list(_lines(slide.shapes, 0))
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame):
            lines += [f"Notes: {notes.text.strip()}"] if notes.text.strip() else []
        if text := "\n".join(lines):
            sections.append(Section(place, budget.spend(text, place)))
    return Document(name, tuple(sections), (presentation.core_properties.title or "")[:_TITLE])


def _lines(shapes: Any, depth: int) -> Iterator[str]:
    for shape in shapes:
        if hasattr(shape, "shapes") and depth < _DEPTH:
            yield from _lines(shape.shapes, depth + 1)
        elif shape.has_text_frame and shape.text_frame.text.strip():
            yield shape.text_frame.text.replace("\v", "\n").strip()
        elif getattr(shape, "has_table", False):
            for row in shape.table.rows:
                yield " | ".join(" ".join(cell.text.split()) for cell in row.cells)
