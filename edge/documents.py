"""A folder of documents, searched by BM25: text, Markdown, HTML and PDF, in pages that a model can read at once."""

import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

from runtime.errors import Notice, RequestError
from runtime.text import one_line, replace_surrogates

PAGE_CHARACTERS = 4000  # characters
_TITLE_CHARACTERS = 200  # characters: each page of a document bears it
MAX_BYTES = 16 * 2**20  # bytes of a document of text
MAX_SECONDS = 10.0  # for HTML and PDF, which may be made to take for ever
_TEXT_SUFFIXES = {".txt", ".md", ".markdown", ".rst", ".csv", ".json"}
_HTML_SUFFIXES = {".html", ".htm"}
_INVISIBLE_TAGS = {"script", "style", "noscript"}
_PACKAGES = ("bm25s", "pypdf")
_SUFFIXES = {*_TEXT_SUFFIXES, *_HTML_SUFFIXES, ".pdf"}


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """`address` is the file's path in the folder, with #2, #3 … from the second page of a file on."""

    address: str
    title: str
    text: str


class DocumentIndex:
    """The pages of a folder and its subfolders. Raises RequestError where there are none, or packages are missing.

    A file that cannot be read is left out with a Notice. Nothing outside of the folder is ever opened.
    """

    def __init__(self, folder: Path) -> None:
        if missing := [name for name in _PACKAGES if find_spec(name) is None]:
            raise RequestError(
                f"searching documents needs {', '.join(missing)}, which is not installed",
                hint='pip install "glm4-edge[research]"',
            )
        import bm25s

        if not folder.is_dir():
            raise RequestError(f"there is no folder {str(folder)!r}", hint="name a folder with documents")
        self.pages = [page for path in sorted(folder.rglob("*")) for page in _read_pages(path, folder)]
        if not self.pages:
            raise RequestError(
                f"{str(folder)!r} holds no documents", hint=f"these are read: {', '.join(sorted(_SUFFIXES))}"
            )
        self._by_address = {page.address: page for page in self.pages}
        self._ranking = bm25s.BM25()
        self._ranking.index([_terms(f"{page.title}\n{page.text}") or [""] for page in self.pages], show_progress=False)

    def search(self, query: str, limit: int = 8) -> list[DocumentPage]:
        """The pages that fit best, the best first; none that share no word with the query."""
        scores = self._ranking.get_scores(_terms(query) or [""])
        ranked = sorted(range(len(self.pages)), key=lambda i: -scores[i])
        return [self.pages[i] for i in ranked[:limit] if scores[i] > 0]

    def open(self, address: str) -> DocumentPage | None:
        return self._by_address.get(address.strip())


def _terms(text: str) -> list[str]:
    """Words in lower case, and pairs of neighbouring Chinese characters, which are written without blanks."""
    terms = re.findall(r"[^\W_\u3400-\u9fff]+", text.lower())
    for run in re.findall(r"[\u3400-\u9fff]+", text):
        terms += [run[i : i + 2] for i in range(max(1, len(run) - 1))]
    return terms


def _read_pages(path: Path, folder: Path) -> Iterator[DocumentPage]:
    if (
        path.suffix.lower() not in _SUFFIXES
        or not path.is_file()
        or not path.resolve().is_relative_to(folder.resolve())
    ):
        return
    name = replace_surrogates(path.relative_to(folder).as_posix())
    try:
        title, text = map(replace_surrogates, _read(path))  # a PDF may have halves of characters
    except Exception as exc:  # a file of the user's may be damaged in any way
        warnings.warn(f"{name} cannot be read and is left out: {one_line(exc)}", Notice, stacklevel=2)
        return
    for number, piece in enumerate(_split(text), start=1):
        yield DocumentPage(name if number == 1 else f"{name}#{number}", title or replace_surrogates(path.stem), piece)


def _read(path: Path) -> tuple[str, str]:
    """Title, which may be empty, and text."""
    suffix = path.suffix.lower()
    if suffix == ".pdf":
        from pypdf import PdfReader

        end = time.monotonic() + MAX_SECONDS
        reader = PdfReader(path)
        title = str((reader.metadata and reader.metadata.title) or "")
        texts = []
        for page in reader.pages:
            texts.append(page.extract_text())
            _check_deadline(end)
        return title[:_TITLE_CHARACTERS], "\n\n".join(texts)
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        warnings.warn(f"{path.name} is read to its first {MAX_BYTES:,} bytes", Notice, stacklevel=2)
    content = data[:MAX_BYTES].decode("utf-8", "replace")
    if suffix in _HTML_SUFFIXES:
        parser = _VisibleText(time.monotonic() + MAX_SECONDS)
        parser.feed(content)
        parser.close()
        return " ".join(parser.title)[:_TITLE_CHARACTERS], "\n".join(parser.texts)
    heading = re.match(r"#+[^\S\n]+(\S.*)", content.lstrip()[: 2 * _TITLE_CHARACTERS])
    return heading[1].strip()[:_TITLE_CHARACTERS] if heading else "", content


class _VisibleText(HTMLParser):
    """The title and the visible texts of a page. Raises TimeoutError at `end`, in time.monotonic's seconds: what is not
    closed makes Python's parser look to the end of the page again and again, and so those built on it."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.title: list[str] = []
        self.texts: list[str] = []
        self._end = end
        self._hidden = 0
        self._in_title = False

    def updatepos(self, i: int, j: int) -> int:
        """What the parser calls at each of its steps, to count lines."""
        _check_deadline(self._end)
        return j

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in _INVISIBLE_TAGS
        self._in_title = tag == "title" and not self.title

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in _INVISIBLE_TAGS))
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if not self._hidden and (text := data.strip()):
            self.texts.append(text)
            if self._in_title:
                self.title.append(text)


def _check_deadline(end: float) -> None:
    if time.monotonic() > end:
        raise TimeoutError(f"it takes longer than {MAX_SECONDS:g} seconds to read")


def _split(text: str) -> Iterator[str]:
    """The text in pieces of at most PAGE characters, cut between paragraphs or lines where there are some."""
    text = text.strip()
    begin = 0
    while len(text) - begin > PAGE_CHARACTERS:
        half, most = begin + PAGE_CHARACTERS // 2, begin + PAGE_CHARACTERS
        cut = max(text.rfind("\n\n", half, most), text.rfind("\n", half, most))
        cut = cut if cut > 0 else most
        yield text[begin:cut].rstrip()
        begin = cut
        while begin < len(text) and text[begin].isspace():
            begin += 1
    if begin < len(text):
        yield text[begin:]
