"""The run of a batch of /v1/batches in the background: validate the input, answer its requests, write its files."""

import asyncio
import io
import time
from collections.abc import Mapping
from contextlib import aclosing
from functools import partial

from runtime.errors import RequestError

from ..endpoint import Endpoint
from ..errors import ApiError, report_error, server_stopping
from ..logs.log import LOG
from ..pool.dispatcher import Dispatcher
from .background import BackgroundTurns
from .batch_record import WINDOW_SECONDS, BatchError, BatchRecord, errors_of
from .endpoint_call import EndpointCalls, error_result, run_parallel
from .file_store import FileStore
from .request_file import MAX_REQUESTS, BatchRequest, RequestFile
from .results import BatchResult, unanswered_line

_MAX_ERRORS = 100  # of a batch whose input is invalid
_RETRY_SECONDS = 1.0  # after which a request is tried again that met a full queue
_UNANSWERED = {
    "expired": ("batch_expired", "the request was not answered within 24 hours"),
    "cancelled": ("batch_cancelled", "the batch was cancelled before the request was answered"),
}


class BatchRun:
    """The run of one batch, from its creation on. Use it in the event loop only."""

    def __init__(
        self,
        batch: BatchRecord,
        *,
        files: FileStore,
        dispatcher: Dispatcher,
        turns: BackgroundTurns,
        endpoints: Mapping[str, Endpoint],
    ) -> None:
        self._batch = batch
        self._files = files
        self._dispatcher = dispatcher
        self._turns = turns
        self._endpoints = endpoints
        self._calls = EndpointCalls(dispatcher, endpoints, batch.client)
        self._output = bytearray()
        self._errors = bytearray()
        self._unanswered: dict[str, BatchRequest] = {}
        self._reserved = 0
        self._answering: asyncio.Task[None] | None = None
        self.task = asyncio.ensure_future(self._run())

    def cancel(self) -> None:
        """Answer no further request. The results so far become the batch's files."""
        self._batch.set_status("cancelling")
        if self._answering is not None:
            self._answering.cancel()

    async def _run(self) -> None:
        batch = self._batch
        try:
            file = await asyncio.to_thread(self._read)
            batch.total = len(file.requests) + len(file.invalid)
            if file.invalid:
                batch.fail(errors_of(file.invalid[:_MAX_ERRORS]))
                return
            self._unanswered = {request.custom_id: request for request in file.requests}
            outcome = "cancelled" if batch.status == "cancelling" else await self._answer_until_end(file)
            self._finish(outcome)
        except Exception as exc:  # noqa: BLE001
            self._store_files()
            batch.fail([_to_batch_error(exc)])
        finally:
            self._files.release(batch.client, self._reserved)
            LOG.info("%s %s: %d of %d requests answered", batch.id, batch.status, batch.completed, batch.total)

    def _read(self) -> RequestFile:
        """Read the input. Runs in a thread."""
        content, nbytes = io.BytesIO(self._batch.content), self._dispatcher.pool.chat_bytes
        file = RequestFile(content, (self._batch.endpoint,), str, max_bytes=nbytes, max_requests=MAX_REQUESTS)
        if not file.requests and not file.invalid:
            raise RequestError("the file has no requests")
        return file

    async def _answer_until_end(self, file: RequestFile) -> str:
        """Answer the requests within 24 hours, and return how that ended."""
        self._batch.set_status("in_progress")
        self._answering = asyncio.ensure_future(self._answer_all(file))
        try:
            await asyncio.wait_for(self._answering, self._batch.created_at + WINDOW_SECONDS - time.time())
        except TimeoutError:
            return "expired"
        except asyncio.CancelledError:
            if self._batch.status != "cancelling":  # the server ends
                raise
            return "cancelled"
        return "completed"

    async def _answer_all(self, file: RequestFile) -> None:
        results = run_parallel(file.requests, partial(self._answer, file), self._turns.most)
        async with aclosing(results):
            async for result in results:
                self._append(self._output if result.succeeded else self._errors, result.to_line())
                self._batch.completed += result.succeeded
                self._batch.failed += not result.succeeded
                del self._unanswered[result.request.custom_id]

    async def _answer(self, file: RequestFile, request: BatchRequest) -> BatchResult:
        while True:
            if self._dispatcher.pool.stopped:
                raise server_stopping()
            try:
                async with self._turns.turn(request.model):
                    result = await self._calls.answer(file, request)
            except Exception as exc:  # noqa: BLE001
                result = error_result(request, exc, self._endpoints[request.path])
            if result.status != 429:
                return result
            await asyncio.sleep(_RETRY_SECONDS)

    def _append(self, output: bytearray, line: bytes) -> None:
        """Append a line. Raises ApiError if the client's files leave no room for it."""
        self._files.reserve(self._batch.client, len(line))
        self._reserved += len(line)
        output += line

    def _finish(self, outcome: str) -> None:
        if outcome == "completed":
            self._batch.set_status("finalizing")
        else:
            code, message = _UNANSWERED[outcome]
            for request in self._unanswered.values():
                self._append(self._errors, unanswered_line(request, code, message))
            self._batch.failed += len(self._unanswered)
        self._store_files()
        self._batch.set_status(outcome)  # type: ignore[arg-type]

    def _store_files(self) -> None:
        """Store the results so far as files. Their room has been reserved."""
        batch = self._batch
        self._files.release(batch.client, self._reserved)
        self._reserved = 0
        add = partial(self._files.add, batch.client, purpose="batch_output", seconds=batch.output_seconds)
        if self._output:
            batch.output_file_id = add(f"{batch.id}_output.jsonl", content=bytes(self._output)).id
        if self._errors:
            batch.error_file_id = add(f"{batch.id}_error.jsonl", content=bytes(self._errors)).id


def _to_batch_error(exc: Exception) -> BatchError:
    error = exc if isinstance(exc, ApiError) else report_error(exc)
    return BatchError(code=error.code or "failed", line=None, message=str(error), param=error.param)
