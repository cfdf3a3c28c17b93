"""A folder of documents, searched by BM25: text, Markdown, HTML and PDF, in pages that a model can read at once."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from runtime.errors import Notice, RequestError
from runtime.text import replace_surrogates

PAGE = 4000  # characters
_TEXT = {".txt", ".md", ".markdown", ".rst", ".csv", ".json"}
_HTML = {".html", ".htm"}
_PACKAGES = ("bm25s", "bs4", "pypdf")
_READ = {*_TEXT, *_HTML, ".pdf"}


@dataclass(frozen=True, slots=True)
class Page:
    """`address` is the file's path in the folder, with #2, #3 … from the second page of a file on."""

    address: str
    title: str
    text: str


class Documents:
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
        self.pages = [page for path in sorted(folder.rglob("*")) for page in _pages(path, folder)]
        if not self.pages:
            raise RequestError(
                f"{str(folder)!r} holds no documents", hint=f"these are read: {', '.join(sorted(_READ))}"
            )
        self._by_address = {page.address: page for page in self.pages}
        self._ranking = bm25s.BM25()
        self._ranking.index([_terms(f"{page.title}\n{page.text}") for page in self.pages], show_progress=False)

    def search(self, query: str, most: int = 8) -> list[Page]:
        """The pages that fit best, the best first; none that share no word with the query."""
        scores = self._ranking.get_scores(_terms(query) or [""])
        ranked = sorted(range(len(self.pages)), key=lambda i: -scores[i])
        return [self.pages[i] for i in ranked[:most] if scores[i] > 0]

    def open(self, address: str) -> Page | None:
        return self._by_address.get(address.strip())


def _terms(text: str) -> list[str]:
    """Words in lower case, and pairs of neighbouring Chinese characters, which are written without blanks."""
    terms = re.findall(r"[^\W_\u3400-\u9fff]+", text.lower())
    for run in re.findall(r"[\u3400-\u9fff]+", text):
        terms += [run[i : i + 2] for i in range(max(1, len(run) - 1))]
    return terms


def _pages(path: Path, folder: Path) -> Iterator[Page]:
    if path.suffix.lower() not in _READ or not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        return
    name = replace_surrogates(path.relative_to(folder).as_posix())
    try:
        title, text = map(replace_surrogates, _read(path))  # a PDF may have halves of characters
    except Exception as exc:  # a file of the user's may be damaged in any way
        warnings.warn(f"{name} cannot be read and is left out: {exc}", Notice, stacklevel=2)
        return
    for number, piece in enumerate(_pieces(text), start=1):
        yield Page(name if number == 1 else f"{name}#{number}", title or replace_surrogates(path.stem), piece)


def _read(path: Path) -> tuple[str, str]:
    """Title, which may be empty, and text."""
    suffix = path.suffix.lower()
    if suffix == ".pdf":
        from pypdf import PdfReader

        reader = PdfReader(path)
        title = str((reader.metadata and reader.metadata.title) or "")
        return title, "\n\n".join(page.extract_text() for page in reader.pages)
    content = path.read_text(encoding="utf-8", errors="replace")
    if suffix in _HTML:
        from bs4 import BeautifulSoup

        soup = BeautifulSoup(content, "html.parser")
        for hidden in soup(["script", "style", "noscript"]):
            hidden.decompose()
        title = soup.title.get_text(" ", strip=True) if soup.title else ""
        return title, soup.get_text("\n", strip=True)
    heading = re.match(r"#+\s+(.+)", content.lstrip())
    return heading[1].strip() if heading else "", content


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of at most PAGE characters, cut between paragraphs or lines where there are some."""
    text = text.strip()
    while len(text) > PAGE:
        cut = max(text.rfind("\n\n", PAGE // 2, PAGE), text.rfind("\n", PAGE // 2, PAGE))
        cut = cut if cut > 0 else PAGE
        yield text[:cut].rstrip()
        text = text[cut:].lstrip()
    if text:
        yield text
