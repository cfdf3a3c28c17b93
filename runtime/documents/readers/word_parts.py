"""What a DOCX has beside its paragraphs and tables: text boxes, footnotes and endnotes, titles of charts, headers and
footers. Each stands after the paragraph or table that it belongs to; headers and footers come last.

Parts of the archive are judged by their sizes before one is opened (`archive.py`), entities are not expanded, and a
part is parsed once.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docx.document import Document as WordDocument
    from docx.opc.part import Part

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_BOX = f"{_WORD}txbxContent"
_NOTE_KINDS = {f"{_WORD}footnoteReference": "footnote", f"{_WORD}endnoteReference": "endnote"}
_TITLE = f".//{_CHART}title"
_EXTRAS = (_BOX, *_NOTE_KINDS, f"{_CHART}chart")


class WordParts:
    """The further parts of a DOCX. A note is added for one that is damaged."""

    def __init__(self, document: "WordDocument", notes: list[str]) -> None:
        self._part: Part = document.part
        self._damage = notes
        self._notes: dict[str, dict[str, str]] = {}
        self._charts: dict[str, str] = {}

    def beside(self, block: Any) -> Iterator[str]:
        """Yield the text boxes, the notes and the chart titles of a paragraph or a table, in their order."""
        if not len(block):
            return
        for element in block.iter(*_EXTRAS):
            if element.tag == _BOX:
                if not any(above.tag in (_FALLBACK, _BOX) for above in element.iterancestors()):
                    yield _text(element)  # boxes in boxes are part of it
            elif element.tag in _NOTE_KINDS:
                kind = _NOTE_KINDS[element.tag]
                if text := self._notes_of(kind).get(element.get(f"{_WORD}id", ""), ""):
                    yield f"[{kind}: {text}]"
            elif title := self._chart_title(element.get(f"{_RELATION}id", "")):
                yield f"[chart: {title}]"

    def _notes_of(self, kind: str) -> dict[str, str]:
        """Return the footnotes or the endnotes by their ids."""
        if kind not in self._notes:
            found = self._notes[kind] = {}
            for part in _related(self._part, f"/{kind}s"):
                for note in self._parse(part).iter(f"{_WORD}{kind}"):
                    if note.get(f"{_WORD}type") in (None, "normal"):
                        found[note.get(f"{_WORD}id", "")] = " ".join(_text(note).split())
        return self._notes[kind]

    def _chart_title(self, relation: str) -> str:
        if relation not in self._charts:
            part = self._part.rels.get(relation)
            title = None if part is None or part.is_external else self._parse(part.target_part).find(_TITLE)
            words = [] if title is None else [node.text or "" for node in title.iter(f"{_DRAWING}t", f"{_CHART}v")]
            self._charts[relation] = " ".join("".join(words).split())
        return self._charts[relation]

    def headers_and_footers(self) -> Iterator[tuple[str, str]]:
        """Yield the headers and then the footers, each text once: what it is, and its text."""
        for kind in ("header", "footer"):
            texts = (_text(self._parse(part)) for part in _related(self._part, f"/{kind}"))
            for text in dict.fromkeys(texts):
                if text:
                    yield kind, text

    def _parse(self, part: "Part") -> Any:
        """Return the root element of a part."""
        from docx.oxml.parser import OxmlElement, parse_xml

        element = getattr(part, "element", None)
        if element is not None:
            return element
        try:
            return parse_xml(part.blob)
        except SyntaxError:
            self._damage.append(f"its part {part.partname} is damaged, and was not read")
            return OxmlElement("w:p")


def _related(part: "Part", suffix: str) -> Iterator["Part"]:
    """Yield the parts of the archive that a part refers to by relations whose type ends so."""
    for relation in part.rels.values():
        if relation.reltype.endswith(suffix) and not relation.is_external:
            yield relation.target_part


def _text(root: Any) -> str:
    """Return the lines of the paragraphs in an element, without those that older programs are given in their place."""
    lines = [""]
    for node in root.iter(f"{_WORD}p", f"{_WORD}t", f"{_WORD}tab", f"{_WORD}br"):
        if any(above.tag == _FALLBACK for above in node.iterancestors()):
            continue
        if node.tag == f"{_WORD}p":
            lines.append("")
        else:
            lines[-1] += (node.text or "") if node.tag == f"{_WORD}t" else " "
    return "\n".join(line.strip() for line in lines if line.strip())
