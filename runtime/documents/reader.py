"""Read documents in a process of its own, whose time and memory are bounded.

A library that hangs, or takes too much memory on a document that was made for it, is ended with that process.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from ..backends.child import Child
from ..cancellation import Cancellation
from ..errors import BackendError, RequestError
from ..system.awake_time import PolledClock
from ..system.files import expand_user
from ..text import one_line, quoted, replace_surrogates, replace_surrogates_within
from .document import Document, Section
from .formats import find_format
from .limits import Budget, DocumentLimits, UnreadableDocument

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

DocumentLike = str | os.PathLike[str] | tuple[str, bytes] | Document
"""A document: the path of a file, a name and its content as bytes, or a Document that was read before.

Example:
    documents: list[edge.DocumentLike] = ["./ferries.pdf", ("fares.md", b"A crossing costs 12 crowns.")]
"""
_ENTRY = f"{__name__}:serve"
_STEP = 0.05  # seconds between two looks at the process
_STARTING = 60.0  # seconds
_OUT_OF_MEMORY = ("unknown error", "Memory allocation failed")  # what libxml2 says
_SPLIT = "split it, or pass the part that matters"


def read_document(document: DocumentLike) -> Document:
    """Read a document: PDF, DOCX, PPTX, XLSX, HTML, Markdown, CSV, code or text in any encoding.

    It is the path of a file, or a name and the content. Macros never run, and nothing that a document links to is
    opened. Raises RequestError for a format that is not supported, a package that is missing, and a document that
    is damaged, has a password, has no text (scanned pages), or exceeds the limits on size, time or memory.

    Example:
        document = edge.read_document(("fares.csv", b"crossing,crowns\\nNorth,12\\n"))
        print(document.text)
    """
    with DocumentReader() as reader:
        return reader.read(document)


class DocumentReader:
    """Reads documents one after the other, in a process that starts with the first of them. Close it afterwards."""

    def __init__(self, limits: DocumentLimits = DocumentLimits(), cancellation: Cancellation | None = None) -> None:
        self._limits = limits
        self._cancellation = cancellation or Cancellation()
        self._child: Child | None = None

    def read(self, document: DocumentLike) -> Document:
        """Read a document. Errors are those of `read_document`."""
        if isinstance(document, Document):
            return document
        name, data = load(document, self._limits)
        found = find_format(name, data)
        answer = self._ask({"name": name, "reader": found.reader, "limits": _to_json(self._limits)}, data)
        if "reason" in answer:
            raise RequestError(f"{quoted(name)} {answer['reason']}", hint=answer["cure"])
        return Document(
            name,
            tuple(Section(**section) for section in answer["sections"]),
            answer["title"],
            tuple(answer["notes"]),
        )

    def _ask(self, request: Mapping[str, Any], data: bytes) -> dict[str, Any]:
        name = quoted(request["name"])
        child = self._start()
        try:
            child.pipe.send_bytes(json.dumps(request).encode())
            child.pipe.send_bytes(data)
            clock = PolledClock()
            while not child.pipe.poll(_STEP):
                if clock.seconds > self._limits.kill_seconds:
                    self._reject(f"{name} was not read within {self._limits.kill_seconds:g} seconds")
                if child.usage()[1] > self._limits.memory:
                    self._reject(f"{name} needs more than {self._limits.memory // 2**20} MiB of memory to be read")
                if self._cancellation.cancelled:
                    self._reject(f"reading {name} was cancelled")
            answer: dict[str, Any] = json.loads(child.pipe.recv_bytes())
            return answer
        except (EOFError, OSError):
            self._reject(f"{name} cannot be read: it ended the process that reads it")

    def _reject(self, message: str) -> NoReturn:
        self.close()
        raise RequestError(message, hint=_SPLIT) from None

    def _start(self) -> Child:
        if self._child is None:
            try:
                self._child = Child(_ENTRY)
                if not self._child.pipe.poll(_STARTING) or self._child.pipe.recv_bytes() != b"ready":
                    raise EOFError
            except (BackendError, EOFError, OSError) as exc:
                self.close()
                raise RequestError(
                    "the process that reads documents cannot be started", hint="close other programs, then try again"
                ) from exc
        return self._child

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(
    document: str | os.PathLike[str] | tuple[str, bytes], limits: DocumentLimits = DocumentLimits()
) -> tuple[str, bytes]:
    """Return a document's name and content. Raises RequestError for one that is missing, no file, or too large."""
    match document:
        case (str(name), bytes(data)):
            size = len(data)
        case str() | os.PathLike():
            path = expand_user(document)
            name, data = replace_surrogates(path.name), b""
            try:
                if not path.is_file():
                    raise RequestError(
                        f"there is no file {quoted(os.fspath(document))}", hint="pass the path of a document"
                    )
                with path.open("rb") as file:  # one byte more shows that the file is larger
                    size = os.fstat(file.fileno()).st_size
                    if size <= limits.file_bytes:
                        data = file.read(limits.file_bytes + 1)
                        size = len(data)
            except OSError as exc:
                raise RequestError(
                    f"{quoted(os.fspath(document))} cannot be read: {exc.strerror}", hint="check its permissions"
                ) from exc
        case _:
            raise RequestError(
                f"a document is {type(document).__name__}", hint="pass a path, or a name and the content as bytes"
            )
    if size > limits.file_bytes:
        raise RequestError(f"{quoted(name)} is larger than {limits.file_bytes // 2**20} MiB", hint=_SPLIT)
    return replace_surrogates(name), data


def to_documents(documents: Iterable[DocumentLike]) -> tuple[DocumentLike, ...]:
    """Return the documents as a tuple. Raises RequestError for a single document in place of a list."""
    single = isinstance(documents, str | bytes | os.PathLike | Document) or not isinstance(documents, Iterable)
    if single or (isinstance(documents, tuple) and len(documents) == 2 and isinstance(documents[1], bytes)):
        raise RequestError(f"documents is {type(documents).__name__}", hint="pass a list: documents=[…]")
    return tuple(documents)


def _to_json(limits: DocumentLimits) -> dict[str, float]:
    return {name: getattr(limits, name) for name in DocumentLimits.__dataclass_fields__}


# In the process.


def serve(pipe: "Connection[Any, Any]") -> None:
    """Read the documents that come over the pipe, and send what each contains, or why it cannot be read."""
    pipe.send_bytes(b"ready")
    while True:
        request = json.loads(pipe.recv_bytes())
        data = pipe.recv_bytes()
        limits = DocumentLimits(**request["limits"])
        _limit_memory(limits.memory)
        pipe.send_bytes(json.dumps(_read(request["name"], request["reader"], data, limits)).encode())


def _read(name: str, reader: str, data: bytes, limits: DocumentLimits) -> dict[str, Any]:
    import importlib

    module, _, function = reader.partition(":")
    budget = Budget(limits)
    try:
        read = getattr(importlib.import_module(f".readers.{module}", __package__), function)
        found: Document = read(name, data, budget)
    except UnreadableDocument as exc:
        return {"reason": one_line(exc.reason), "cure": exc.cure}
    except MemoryError:
        return _too_large(limits)
    except RecursionError:
        return {"reason": "is nested too deeply", "cure": "save it anew, with less inside of one another"}
    except Exception as exc:  # parsers of damaged files raise anything  # noqa: BLE001
        if any(words in str(exc) for words in _OUT_OF_MEMORY):
            return _too_large(limits)
        return {"reason": f"is damaged: {one_line(exc) or type(exc).__name__}", "cure": UnreadableDocument("").cure}
    if not found.sections:
        return {"reason": "has no text", "cure": "pass a document with text"}
    sections = found.sections[: limits.sections]
    if len(found.sections) > limits.sections:
        budget.notes.append(f"only the first {limits.sections:,} of {len(found.sections):,} sections were read")
    answer = {
        "sections": [{"place": one.place, "text": one.text, "unit": one.unit, "first": one.first} for one in sections],
        "title": " ".join(found.title.split()),
        "notes": [one_line(note) for note in (*found.notes, *budget.notes[:20])],
    }
    cleaned: dict[str, Any] = replace_surrogates_within(answer)
    return cleaned


def _too_large(limits: DocumentLimits) -> dict[str, Any]:
    return {"reason": f"needs more than {limits.memory // 2**20} MiB of memory to be read", "cure": _SPLIT}


def _limit_memory(nbytes: int) -> None:
    """Make allocations beyond the limit fail, on Linux; elsewhere the parent looks at the process from time to time."""
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = nbytes if hard == resource.RLIM_INFINITY else min(nbytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
