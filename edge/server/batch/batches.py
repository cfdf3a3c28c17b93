"""/v1/batches: create, list, retrieve and cancel batches, which are answered in the background."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.fields import RequestModel
from ..guard.body import read_body
from ..pool.dispatcher import Dispatcher
from ..responses.store.access import owner_of
from .background import BackgroundTurns
from .batch_record import BatchObject, BatchRecord
from .batch_run import BatchRun
from .endpoint_call import batch_endpoints
from .file_store import FILE_SECONDS, FileStore
from .files import Files
from .pages import ListQuery, page_json

_MAX_RUNNING = 8  # batches of a client at once
_MAX_KEPT = 1000  # batches of all clients


class ExpiresAfter(RequestModel):
    """When the files of a batch expire: seconds after their creation."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=30 * 24 * 3600)]


class BatchRequestBody(RequestModel):
    """A request to answer the requests of a file."""

    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)] | None = None
    output_expires_after: ExpiresAfter | None = None


class BatchList(BaseModel):
    """A page of a client's batches, the newest first."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Batches:
    """The endpoints of batches, whose requests go to `endpoints`."""

    def __init__(self, dispatcher: Dispatcher, files: FileStore, endpoints: Iterable[Endpoint]) -> None:
        self._files = files
        self._requests = batch_endpoints(endpoints)
        self._turns = BackgroundTurns(dispatcher)
        self._batches: dict[str, BatchRecord] = {}
        self._runs: dict[str, BatchRun] = {}
        self.endpoints = (
            Endpoint("POST", "/v1/batches", self.create, BatchRequestBody, BatchObject),
            Endpoint("GET", "/v1/batches", self.list, None, BatchList),
            Endpoint("GET", "/v1/batches/{id}", self.retrieve, None, BatchObject),
            Endpoint("POST", "/v1/batches/{id}/cancel", self.cancel, None, BatchObject),
        )

    async def create(self, dispatcher: Dispatcher, request: Request) -> Response:
        """Begin a batch."""
        body, client = await read_body(request, BatchRequestBody), owner_of(request)
        if body.endpoint not in self._requests:
            known = ", ".join(self._requests)
            raise ApiError(400, f"endpoint must be one of {known}", param="endpoint", code="invalid_value")
        file = self._files.get(client, body.input_file_id)
        if file.purpose != "batch":
            message = "the file's purpose is not batch"
            raise ApiError(400, message, param="input_file_id", code="invalid_value")
        running = [batch for batch in self._batches.values() if batch.client == client and not batch.ended]
        if len(running) >= _MAX_RUNNING:
            raise ApiError(429, f"{_MAX_RUNNING} of your batches are running already", code="too_many_batches")
        batch = BatchRecord(
            client=client,
            endpoint=body.endpoint,
            input_file_id=file.id,
            content=file.content,
            metadata=body.metadata,
            output_seconds=body.output_expires_after.seconds if body.output_expires_after else FILE_SECONDS,
        )
        self._add(batch)
        run = BatchRun(batch, files=self._files, dispatcher=dispatcher, turns=self._turns, endpoints=self._requests)
        self._runs[batch.id] = run
        run.task.add_done_callback(lambda _: self._runs.pop(batch.id))
        return JSONResponse(batch.to_json())

    async def list(self, dispatcher: Dispatcher, request: Request) -> Response:
        """Return a page of the client's batches."""
        query, client = ListQuery.model_validate(dict(request.query_params)), owner_of(request)
        batches, has_more = query.page([batch for batch in self._batches.values() if batch.client == client], 20)
        return JSONResponse(page_json([batch.to_json() for batch in batches], has_more))

    async def retrieve(self, dispatcher: Dispatcher, request: Request) -> Response:
        """Return a batch."""
        return JSONResponse(self._get(request).to_json())

    async def cancel(self, dispatcher: Dispatcher, request: Request) -> Response:
        """End a batch; what was answered is kept."""
        batch = self._get(request)
        if batch.ended or batch.status == "finalizing":
            raise ApiError(400, f"the batch is {batch.status}: it cannot be cancelled", code="invalid_status")
        if batch.status != "cancelling":
            self._runs[batch.id].cancel()
        return JSONResponse(batch.to_json())

    def _get(self, request: Request) -> BatchRecord:
        id = request.path_params["id"]
        batch = self._batches.get(id)
        if batch is None or batch.client != owner_of(request):
            raise ApiError(404, f"there is no batch {id[:100]!r}", param="batch_id", code="batch_not_found")
        return batch

    def _add(self, batch: BatchRecord) -> None:
        """Keep a batch; the oldest one that has ended makes room for it."""
        if len(self._batches) >= _MAX_KEPT:
            oldest = next((one.id for one in self._batches.values() if one.ended), None)
            if oldest is None:
                raise ApiError(503, "too many batches are running", code="busy")
            del self._batches[oldest]
        self._batches[batch.id] = batch


def file_and_batch_endpoints(dispatcher: Dispatcher, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Return the endpoints of files and of batches, whose requests go to `endpoints`."""
    store = FileStore()
    return (*Files(store).endpoints, *Batches(dispatcher, store, endpoints).endpoints)
