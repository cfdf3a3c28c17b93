"""POST /chat/document?name=…: the text of a document, for the server's own page, which keeps it in the browser.

The body is the file. The response has the document's sections, as the page sends them with a question.
"""

import asyncio
from typing import Annotated

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from runtime.documents.document import Document, Section
from runtime.documents.formats import FORMATS, TEXT_SUFFIXES
from runtime.documents.limits import DocumentLimits
from runtime.documents.reader import DocumentReader
from runtime.errors import RequestError

from ..endpoint import Endpoint
from ..generation.fields import RequestModel
from ..pool.dispatcher import Dispatcher

SUFFIXES = tuple(sorted({*FORMATS, *TEXT_SUFFIXES}))
_MAX_SECTIONS = 20_000
_MAX_NAME = 255  # characters
_BYTES_PER_CHARACTER = 4  # of UTF-8: the text of a document has to fit a request


class PageSection(RequestModel):
    """A part of a document."""

    place: str
    text: str
    unit: str = ""
    first: Annotated[int, Field(ge=1)] = 1


class PageDocument(RequestModel):
    """A document as the page keeps it."""

    name: Annotated[str, Field(max_length=_MAX_NAME)]
    sections: Annotated[list[PageSection], Field(max_length=_MAX_SECTIONS)]

    def to_document(self) -> Document:
        """Return it as a chat reads it."""
        return Document(self.name, tuple(Section(one.place, one.text, one.unit, one.first) for one in self.sections))


class UploadedDocument(BaseModel):
    """A document that was read, and what of it could not be."""

    name: str
    sections: list[PageSection]
    notes: list[str]


class Uploads:
    """The endpoint that reads documents, one at a time."""

    def __init__(self) -> None:
        self._one_at_a_time = asyncio.Lock()
        self.endpoints = (Endpoint("POST", "/chat/document", self.read, None, UploadedDocument, documented=False),)

    async def read(self, dispatcher: Dispatcher, request: Request) -> Response:
        """Return the text of the document in the body. Raises RequestError for one that cannot be read."""
        name = request.query_params.get("name", "").strip()
        if not name or len(name) > _MAX_NAME:
            raise RequestError("the document has no name", hint="send it in the query: ?name=report.pdf")
        data = await request.body()
        characters = dispatcher.limits.body_bytes // _BYTES_PER_CHARACTER
        async with self._one_at_a_time:
            content = await asyncio.to_thread(_read, name, data, DocumentLimits(characters=characters))
        return Response(content, media_type="application/json")


def _read(name: str, data: bytes, limits: DocumentLimits) -> bytes:
    """Read a document, and return it as JSON. A large one would make others wait if the event loop did that."""
    with DocumentReader(limits) as reader:
        found = reader.read((name, data))
    sections = [PageSection(place=one.place, text=one.text, unit=one.unit, first=one.first) for one in found.sections]
    return UploadedDocument(name=found.name, sections=sections, notes=list(found.notes)).model_dump_json().encode()
