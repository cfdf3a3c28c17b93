"""A BM25 index of the documents of a folder, split into pages short enough for a model."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.documents.formats import FORMATS, TEXT_SUFFIXES, packages_for, require_packages
from runtime.documents.limits import DocumentLimits
from runtime.documents.reader import DocumentReader
from runtime.documents.search import Embed, PassageIndex
from runtime.documents.split import split
from runtime.errors import Notice, RequestError
from runtime.events import Citation
from runtime.system.files import expand_user
from runtime.text import one_line, replace_surrogates
from runtime.tool_output import ToolOutput
from runtime.tools import Tool

PAGE_CHARACTERS = 4000
_SNIPPET = 300  # characters of a search result
_SUFFIXES = {*FORMATS, *TEXT_SUFFIXES}


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """A page of a document. `address` is the file's path in the folder, followed by #2, #3 … after its first page;
    `place` is where the page is in the document, such as "page 3". `number` is the page's own in the index, from 1, and
    `modified` when the file was last changed, in seconds since 1970."""

    address: str
    title: str
    text: str
    place: str = ""
    file: str = ""
    number: int = 0
    modified: float = 0.0

    @property
    def heading(self) -> str:
        """The title and the place."""
        if self.place.startswith(self.title):
            return self.place
        return f"{self.title}, {self.place}" if self.place else self.title

    @property
    def name(self) -> str:
        """The title, the place and the address, for a person or a model."""
        return f"{self.heading} ({self.address})"

    def citation(self, number: int = 0) -> Citation:
        """Return the page as an answer cites it: by `number`, or else by its own."""
        return Citation(self.file, self.place, self.text, number or self.number)


class DocumentIndex:
    """A BM25 index of the pages of a folder and its subfolders; with `embed`, their vectors are searched as well.

    A file that cannot be read is skipped with a Notice. Files outside of the folder are never opened.
    Raises RequestError where there are no documents or packages are missing.
    """

    def __init__(self, folder: Path, *, embed: Embed | None = None, limits: DocumentLimits = DocumentLimits()) -> None:
        require_packages(("bm25s",), "searching documents")
        if not folder.is_dir():
            raise RequestError(f"there is no folder {str(folder)!r}", hint="pass the path of a folder with documents")
        files = list(_find_files(folder))
        needed = {name for path in files for name in packages_for(path.name)}
        require_packages(tuple(sorted(needed)), "reading these documents")
        with DocumentReader(limits) as reader:
            pages = [page for path in files for page in _read_pages(path, folder, reader)]
        self.pages = [replace(page, number=number) for number, page in enumerate(pages, start=1)]
        if not self.pages:
            raise RequestError(
                f"{str(folder)!r} contains no documents",
                hint="pass a folder with PDF, DOCX, PPTX, XLSX, HTML, Markdown or text files",
            )
        self._by_address = {page.address: page for page in self.pages}
        self._index = PassageIndex([f"{page.title}\n{page.text}" for page in self.pages], embed)

    def search(self, query: str, limit: int = 8, *, since: float = 0.0) -> list[DocumentPage]:
        """Return the pages with the highest scores, best first, without those that share no word with the query, and
        without files that were not changed `since` then."""
        ranked = self._index.search(query, len(self.pages) if since else limit)
        return [page for page in (self.pages[i] for i in ranked) if page.modified >= since][:limit]

    def open(self, address: str) -> DocumentPage | None:
        """Return the page at an address; None if there is none."""
        return self._by_address.get(address.strip())

    def pages_of(self, address: str) -> list[DocumentPage]:
        """Return the page at an address and those of the file that follow it; none if there is no such page."""
        first = self.open(address)
        return [page for page in self.pages[first.number - 1 :] if page.file == first.file] if first else []

    def tools(self) -> tuple[Tool, Tool]:
        """Return the tools search_documents and open_document for a chat."""

        def search_documents(query: str) -> ToolOutput:
            """Search the local documents. Returns the address, the place and the beginning of the best pages. Cite one
            by the mark before it, such as 【3†source】.

            Args:
                query: words that the documents contain
            """
            pages = self.search(query)
            found = (f"{_mark(page)} {page.name}\n{' '.join(page.text.split())[:_SNIPPET]}" for page in pages)
            text = "\n\n".join(found) or "No page has any of these words."
            return ToolOutput(text, citations=tuple(page.citation() for page in pages))

        def open_document(address: str) -> ToolOutput:
            """Read a page of the local documents. Cite it in the answer by the mark before it, such as 【3†source】.

            Args:
                address: an address that search_documents returned, such as fares.pdf#2
            """
            page = self.open(address)
            if page is None:
                raise ValueError(f"there is no page {address!r}; search_documents returns the addresses")
            return ToolOutput(f"{_mark(page)} {page.name}\n\n{page.text}", citations=(page.citation(),))

        return Tool.from_function(search_documents), Tool.from_function(open_document)


def open_folder(folder: str, embedding_model: str | None = None) -> DocumentIndex:
    """Return the index of a folder, with the vectors of an embedding model if its folder is given."""
    from runtime.documents.embedding import PassageEmbedding

    embed = PassageEmbedding(embedding_model) if embedding_model else None
    return DocumentIndex(expand_user(folder), embed=embed)


def _mark(page: DocumentPage) -> str:
    return f"【{page.number}†source】"


def _find_files(folder: Path) -> Iterator[Path]:
    """Yield the documents of a folder in the order of their names, without links that lead out of it."""
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES and path.is_file() and path.resolve().is_relative_to(root):
            yield path


def _read_pages(path: Path, folder: Path, reader: DocumentReader) -> Iterator[DocumentPage]:
    name = replace_surrogates(path.relative_to(folder).as_posix())
    try:
        document = reader.read(path)
    except RequestError as exc:
        warnings.warn(f"{name} is skipped: {one_line(exc)}", Notice, stacklevel=2)
        return
    for note in document.notes:
        warnings.warn(f"{name}: {note}", Notice, stacklevel=2)
    title = document.title or replace_surrogates(os.path.splitext(path.name)[0])
    modified = path.stat().st_mtime
    for number, passage in enumerate(split(document, PAGE_CHARACTERS), start=1):
        address = name if number == 1 else f"{name}#{number}"
        yield DocumentPage(address, title, passage.text, passage.place, name, modified=modified)
