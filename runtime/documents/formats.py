"""The formats of documents: the suffixes of their files, their readers, and the packages that these need."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePath

from ..errors import RequestError
from ..system.installation import install_hint
from ..text import quoted


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its name, the module and function that read it, and the packages that they import."""

    name: str
    reader: str
    packages: tuple[str, ...] = ()


_PDF = Format("PDF", "pdf:read", ("pypdf",))
_WORD = Format("DOCX", "word:read", ("docx",))
_SLIDES = Format("PPTX", "slides:read", ("pptx",))
_SHEETS = Format("XLSX", "sheets:read", ("openpyxl",))
_HTML = Format("HTML", "html:read", ("bs4",))
_MARKDOWN = Format("Markdown", "plain:read_markdown")
_TEXT = Format("text", "plain:read")

FORMATS: Mapping[str, Format] = {
    ".pdf": _PDF,
    ".docx": _WORD,
    ".docm": _WORD,
    ".pptx": _SLIDES,
    ".pptm": _SLIDES,
    ".xlsx": _SHEETS,
    ".xlsm": _SHEETS,
    ".html": _HTML,
    ".htm": _HTML,
    ".xhtml": _HTML,
    ".md": _MARKDOWN,
    ".markdown": _MARKDOWN,
}
TEXT_SUFFIXES = frozenset(
    ".txt .text .rst .csv .tsv .json .jsonl .xml .yaml .yml .toml .ini .cfg .log .tex .py .pyi .js .ts .c .h .cpp .hpp "
    ".cc .java .kt .go .rs .rb .php .swift .cs .sh .ps1 .bat .sql .css .lua .r .m .ipynb".split()
)
_UNREADABLE = {  # formats that people try, and what to do
    ".doc": "save it as DOCX",
    ".xls": "save it as XLSX",
    ".ppt": "save it as PPTX",
    ".odt": "save it as DOCX",
    ".ods": "save it as XLSX",
    ".odp": "save it as PPTX",
    ".rtf": "save it as DOCX",
    ".epub": "save it as HTML",
    ".zip": "unpack it, and pass its files",
}


def find_format(name: str, data: bytes) -> Format:
    """Return the format of a document by its content's first bytes and its name. Raises RequestError for a format that
    is not supported, or whose packages are missing."""
    suffix = PurePath(name).suffix.lower()
    found = FORMATS.get(suffix, _TEXT)
    if data.startswith(b"%PDF-"):
        found = _PDF
    elif suffix in _UNREADABLE or (found is _TEXT and data.startswith((b"PK\3\4", b"\xd0\xcf\x11\xe0"))):
        raise RequestError(
            f"{quoted(name)} has a format that is not supported",
            hint=_UNREADABLE.get(suffix, "pass PDF, DOCX, PPTX, XLSX, HTML, Markdown, CSV or text"),
        )
    require_packages(found.packages, f"reading {found.name}")
    return found


def packages_for(name: str) -> tuple[str, ...]:
    """Return the packages that reading a file of this name needs."""
    return FORMATS.get(PurePath(name).suffix.lower(), _TEXT).packages


def require_packages(packages: tuple[str, ...], purpose: str) -> None:
    """Raise RequestError if one of the packages is not installed."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise RequestError(
            f"{purpose} needs {', '.join(missing)}, which is not installed", hint=install_hint("documents")
        )
