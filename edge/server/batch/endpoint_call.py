"""Calls of the server's own endpoints, in its process: a request of a batch runs the same code as one over HTTP."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Message

from ..endpoint import Endpoint
from ..errors import ApiError, report_error
from ..guard.body_budget import BodyBudget
from ..guard.guard import BUDGET_SHARE
from ..guard.json_values import MAX_VALUES
from ..logs.request_record import CLIENT
from ..pool.dispatcher import Dispatcher
from .request_file import BatchRequest, RequestFile
from .results import BatchResult

_BATCH_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
J = TypeVar("J")
R = TypeVar("R")


def batch_endpoints(endpoints: Iterable[Endpoint]) -> dict[str, Endpoint]:
    """Return the endpoints that a request of a batch may have, by their paths."""
    return {endpoint.path: endpoint for endpoint in endpoints if endpoint.path in _BATCH_PATHS}


class EndpointCalls:
    """Calls of endpoints on behalf of a client. Use them in the event loop only."""

    def __init__(self, dispatcher: Dispatcher, endpoints: Mapping[str, Endpoint], client: str = "") -> None:
        self._dispatcher = dispatcher
        self._endpoints = endpoints
        self._client = client
        self._budget = BodyBudget(dispatcher.pool.chat_bytes, MAX_VALUES)

    async def answer(self, file: RequestFile, request: BatchRequest) -> BatchResult:
        """Run a request of a file. An error is a result, too."""
        start = time.perf_counter()
        endpoint = self._endpoints[request.path]
        share = self._budget.share()
        try:
            body = file.read_body(request)
            if body.get("stream"):
                raise ApiError(
                    400, "stream: a batch has no streams; leave it out", param="stream", code="unsupported_parameter"
                )
            content = json.dumps(body, ensure_ascii=False).encode()
            response = await endpoint.handler(
                self._dispatcher, _request(endpoint, content, {CLIENT: self._client, BUDGET_SHARE: share})
            )
        except Exception as exc:  # noqa: BLE001
            return error_result(request, exc, endpoint)
        finally:
            share.close()
        seconds = time.perf_counter() - start
        return BatchResult(request, response.status_code, json.loads(bytes(response.body)), seconds)


def error_result(request: BatchRequest, error: Exception, endpoint: Endpoint) -> BatchResult:
    """Return the response of an endpoint that raised an error."""
    found = report_error(error)
    body = endpoint.error_format(found) if endpoint.error_format else found.body()
    return BatchResult(request, found.status, body)


def _request(endpoint: Endpoint, content: bytes, more: dict[str, Any]) -> Request:
    """Return a request with this body, whose client never disconnects."""
    messages = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    scope = {
        "type": "http",
        "method": endpoint.method,
        "path": endpoint.path,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "path_params": {},
    }
    return Request(scope | more, receive)


async def run_parallel(jobs: Iterable[J], run: Callable[[J], Awaitable[R]], parallel: int) -> AsyncGenerator[R, None]:
    """Run `parallel` jobs at once, and yield each result as it comes. Closing the iterator cancels what runs."""
    waiting = iter(jobs)
    running: set[asyncio.Future[R]] = set()
    try:
        while True:
            while len(running) < parallel and (job := next(waiting, None)) is not None:
                running.add(asyncio.ensure_future(run(job)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in running:
            future.cancel()
        await asyncio.gather(*running, return_exceptions=True)
