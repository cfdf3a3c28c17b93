"""/v1/files: upload, list, retrieve and delete the files of batches."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..endpoint import Endpoint
from ..generation.fields import RequestModel
from ..guard.form import read_form
from ..pool.dispatcher import Dispatcher
from ..responses.store.access import owner_of
from .file_store import FILE_SECONDS, FileStore, StoredFile
from .pages import ListQuery, page_json


class FileObject(BaseModel):
    """A file, without its content."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(BaseModel):
    """A page of a client's files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """The response to the deletion of a file."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class UploadFields(RequestModel):
    """The fields of an upload beside its file. A file expires after 48 hours, or so many seconds of `expires_after`."""

    purpose: Literal["batch"]
    anchor: Annotated[Literal["created_at"] | None, Field(alias="expires_after[anchor]")] = None
    seconds: Annotated[int | None, Field(alias="expires_after[seconds]", ge=3600, le=30 * 24 * 3600)] = None


class Files:
    """The endpoints of a store of files."""

    def __init__(self, store: FileStore) -> None:
        self.store = store
        self.endpoints = (
            Endpoint("POST", "/v1/files", self.upload, UploadFields, FileObject, upload=True),
            Endpoint("GET", "/v1/files", self.list, None, FileList),
            Endpoint("GET", "/v1/files/{id}", self.retrieve, None, FileObject),
            Endpoint("DELETE", "/v1/files/{id}", self.delete, None, FileDeleted),
            Endpoint("GET", "/v1/files/{id}/content", self.content),
        )

    async def upload(self, dispatcher: Dispatcher, request: Request) -> Response:
        """Store the file of a multipart form."""
        name, content, fields = await read_form(request)
        settings = UploadFields.model_validate(fields)
        seconds = settings.seconds or FILE_SECONDS
        return JSONResponse(_to_json(self.store.add(owner_of(request), name, "batch", content, seconds=seconds)))

    async def list(self, dispatcher: Dispatcher, request: Request) -> Response:
        """Return a page of the client's files."""
        query = ListQuery.model_validate(dict(request.query_params))
        files, has_more = query.page(self.store.list(owner_of(request), query.purpose), 10_000)
        return JSONResponse(page_json([_to_json(file) for file in files], has_more))

    async def retrieve(self, dispatcher: Dispatcher, request: Request) -> Response:
        """Return a file without its content."""
        return JSONResponse(_to_json(self._get(request)))

    async def delete(self, dispatcher: Dispatcher, request: Request) -> Response:
        """Delete a file. A batch that has begun keeps its own."""
        file = self._get(request)
        self.store.delete(file.client, file.id)
        return JSONResponse(FileDeleted(id=file.id).model_dump())

    async def content(self, dispatcher: Dispatcher, request: Request) -> Response:
        """Return the content of a file."""
        headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}
        return Response(self._get(request).content, media_type="text/plain", headers=headers)

    def _get(self, request: Request) -> StoredFile:
        return self.store.get(owner_of(request), request.path_params["id"])


def _to_json(file: StoredFile) -> dict[str, Any]:
    return FileObject(
        id=file.id,
        bytes=len(file.content),
        created_at=file.created_at,
        expires_at=file.expires_at,
        filename=file.filename,
        purpose=file.purpose,
    ).model_dump()
