"""A BM25 index of local documents: text, Markdown, HTML and PDF, split into pages short enough for a model."""

import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

from runtime.errors import Notice, RequestError
from runtime.system.installation import install_hint
from runtime.text import one_line, replace_surrogates

PAGE_CHARACTERS = 4000  # characters
_TITLE_CHARACTERS = 200  # characters; each page of a document repeats its title
MAX_BYTES = 16 * 2**20  # bytes of a text document; the rest is ignored
MAX_SECONDS = 10.0  # to read an HTML or PDF file, which may be crafted to never end
_TEXT_SUFFIXES = {".txt", ".md", ".markdown", ".rst", ".csv", ".json"}
_HTML_SUFFIXES = {".html", ".htm"}
_INVISIBLE_TAGS = {"script", "style", "noscript"}
_PACKAGES = ("bm25s", "pypdf")
_SUFFIXES = {*_TEXT_SUFFIXES, *_HTML_SUFFIXES, ".pdf"}


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """A page of a document. `address` is the file's path in the folder, followed by #2, #3 … after its first page."""

    address: str
    title: str
    text: str


class DocumentIndex:
    """A BM25 index of the pages of a folder and its subfolders.

    A file that cannot be read is skipped with a Notice. Files outside of the folder are never opened.
    Raises RequestError where there are no documents or packages are missing.
    """

    def __init__(self, folder: Path) -> None:
        if missing := [name for name in _PACKAGES if find_spec(name) is None]:
            raise RequestError(
                f"searching documents needs {', '.join(missing)}, which is not installed",
                hint=install_hint("research"),
            )
        import bm25s

        if not folder.is_dir():
            raise RequestError(f"there is no folder {str(folder)!r}", hint="pass the path of a folder with documents")
        self.pages = [page for path in sorted(folder.rglob("*")) for page in _read_pages(path, folder)]
        if not self.pages:
            raise RequestError(
                f"{str(folder)!r} contains no documents", hint=f"supported: {', '.join(sorted(_SUFFIXES))}"
            )
        self._by_address = {page.address: page for page in self.pages}
        self._ranking = bm25s.BM25()
        self._ranking.index([_terms(f"{page.title}\n{page.text}") or [""] for page in self.pages], show_progress=False)

    def search(self, query: str, limit: int = 8) -> list[DocumentPage]:
        """Return the pages with the highest scores, best first, without those that share no word with the query."""
        scores = self._ranking.get_scores(_terms(query) or [""])
        ranked = sorted(range(len(self.pages)), key=lambda i: -scores[i])
        return [self.pages[i] for i in ranked[:limit] if scores[i] > 0]

    def open(self, address: str) -> DocumentPage | None:
        """Return the page at an address; None if there is none."""
        return self._by_address.get(address.strip())


def _terms(text: str) -> list[str]:
    """Split a text into lower-case words and, as Chinese has no blanks, pairs of adjacent Chinese characters."""
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
        title, text = map(replace_surrogates, _read(path))  # a PDF may have lone surrogates
    except Exception as exc:  # parsers of damaged files raise anything  # noqa: BLE001
        warnings.warn(f"{name} cannot be read and is skipped: {one_line(exc)}", Notice, stacklevel=2)
        return
    for number, piece in enumerate(_split(text), start=1):
        yield DocumentPage(name if number == 1 else f"{name}#{number}", title or replace_surrogates(path.stem), piece)


def _read(path: Path) -> tuple[str, str]:
    """Return a file's title, which may be empty, and its text."""
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
        warnings.warn(f"only the first {MAX_BYTES:,} bytes of {path.name} are read", Notice, stacklevel=2)
    content = data[:MAX_BYTES].decode("utf-8", "replace")
    if suffix in _HTML_SUFFIXES:
        parser = _VisibleText(time.monotonic() + MAX_SECONDS)
        parser.feed(content)
        parser.close()
        return " ".join(parser.title)[:_TITLE_CHARACTERS], "\n".join(parser.texts)
    heading = re.match(r"#+[^\S\n]+(\S.*)", content.lstrip()[: 2 * _TITLE_CHARACTERS])
    return heading[1].strip()[:_TITLE_CHARACTERS] if heading else "", content


class _VisibleText(HTMLParser):
    """The title and the visible text of an HTML page.

    Raises TimeoutError at `end`, in seconds of `time.monotonic`: Python's parser, and those built on it, rescan the
    rest of the page at every construct that is not closed.
    """

    def __init__(self, end: float) -> None:
        super().__init__()
        self.title: list[str] = []
        self.texts: list[str] = []
        self._end = end
        self._hidden = 0
        self._in_title = False

    def updatepos(self, i: int, j: int) -> int:
        """Check the deadline: the parser calls this hook at every step, to count lines."""
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
        raise TimeoutError(f"reading it took longer than {MAX_SECONDS:g} seconds")


def _split(text: str) -> Iterator[str]:
    """Yield the text in pieces of at most PAGE_CHARACTERS, cut between paragraphs or lines where possible."""
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
