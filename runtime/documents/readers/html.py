"""HTML: the visible text; sections are headings. Nothing that a page links to is loaded."""

from ..document import Document, Section
from ..encoding import decode
from ..limits import Budget

_INVISIBLE = ("script", "style", "noscript", "template", "iframe", "object", "svg", "select")
_BLOCKS = (
    "address article aside blockquote body caption dd details div dl dt fieldset figcaption figure footer form "
    "header hr li main nav ol p pre section summary table tbody tfoot thead tr ul"
).split()
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BEGIN, _END = "\x1e", "\x1f"  # around headings, in the text that bs4 makes
_TITLE = 200  # characters


def read(name: str, data: bytes, budget: Budget) -> Document:
    """Read the visible text of a page."""
    from bs4 import BeautifulSoup, Comment, Declaration, Doctype, ProcessingInstruction
    from bs4.dammit import EncodingDetector

    declared = EncodingDetector.find_declared_encoding(data, is_html=True)
    try:
        text = data.decode(declared or "utf-8").replace("\r\n", "\n")
    except (UnicodeDecodeError, LookupError):
        text = decode(data)
    soup = BeautifulSoup(text.replace(_BEGIN, " ").replace(_END, " "), "html.parser")
    title = " ".join(soup.title.get_text().split())[:_TITLE] if soup.title else ""
    for tag in soup.find_all([*_INVISIBLE, "title"]):
        tag.decompose()
    for string in soup.find_all(
        string=lambda one: isinstance(one, Comment | Declaration | Doctype | ProcessingInstruction)
    ):
        string.extract()
    for tag in soup.find_all(["br"]):
        tag.replace_with("\n")
    for tag in soup.find_all(["td", "th"]):
        tag.insert_before(" | ")
    for tag in soup.find_all(_BLOCKS):
        tag.insert_before("\n")
        tag.append("\n")
    for tag in soup.find_all(_HEADINGS):
        tag.insert_before("\n" + _BEGIN)
        tag.append(_END + "\n")
    return Document(name, tuple(_sections(budget.spend(soup.get_text(), ""))), title)


def _sections(text: str) -> list[Section]:
    before, *parts = text.split(_BEGIN)
    pairs = [("", before), *(part.partition(_END)[::2] for part in parts)]
    found = []
    for heading, rest in pairs:
        place = " ".join(heading.split())
        lines = [place, *(" ".join(line.split()).removeprefix("| ") for line in rest.split("\n"))]
        if body := "\n".join(line for line in lines if line):
            found.append(Section(place[:_TITLE], body))
    return found
