"""PDF by pypdf: sections are pages. Scripts, attachments and links are not read."""

import io
from typing import TYPE_CHECKING

from ..document import Document, Section
from ..limits import Budget, UnreadableDocument

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader

_TITLE = 200  # characters


def read(name: str, data: bytes, budget: Budget) -> Document:
    """Read the text of the pages. Raises UnreadableDocument for a password, a damaged file, or scanned pages alone."""
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError, PyPdfError

    try:
        reader = PdfReader(io.BytesIO(data))
        count = len(reader.pages)
        title = _title(reader)
    except (FileNotDecryptedError, DependencyError) as exc:
        raise UnreadableDocument("has a password", "save it without one") from exc
    except PyPdfError as exc:
        raise UnreadableDocument(f"is damaged: {exc}") from exc
    sections, textless = [], []
    for number in range(1, min(count, budget.limits.pages) + 1):
        if budget.exhausted(f"page {number} of {count:,}"):
            break
        try:
            page = reader.pages[number - 1]
            text = page.extract_text().strip()
        except Exception as exc:  # pypdf raises anything for a damaged page  # noqa: BLE001
            budget.notes.append(f"page {number} is damaged and was not read: {exc}")
            continue
        if text:
            sections.append(Section(f"page {number}", budget.spend(text, f"page {number}")))
        elif _has_picture(page):
            textless.append(number)
    if count > budget.limits.pages:
        budget.notes.append(f"only the first {budget.limits.pages:,} of {count:,} pages were read")
    if textless and not sections:
        raise UnreadableDocument(
            "has no text: its pages are pictures, as a scanner makes them", "recognize its text first, as ocrmypdf does"
        )
    if textless:
        budget.notes.append(f"{_pages(textless)} without text: scanned, or pictures alone")
    return Document(name, tuple(sections), title)


def _title(reader: "PdfReader") -> str:
    try:
        return str((reader.metadata and reader.metadata.title) or "")[:_TITLE]
    except Exception:  # of no importance  # noqa: BLE001
        return ""


def _has_picture(page: "PageObject") -> bool:
    try:
        resources = page.get("/Resources")
        objects = resources.get_object().get("/XObject") if resources else None
        return bool(objects and objects.get_object())
    except Exception:  # of no importance  # noqa: BLE001
        return False


def _pages(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:10])) + (" …" if len(numbers) > 10 else "")
    return f"page {shown} is" if len(numbers) == 1 else f"pages {shown} are"
