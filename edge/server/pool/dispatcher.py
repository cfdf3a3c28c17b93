"""From a request to its reply: the turn, the model, the threads that write, the client that may hang up."""

import asyncio
import json
import logging
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from runtime import strict_json
from runtime.cancellation import Cancellation
from runtime.messages import Event, Finish
from runtime.model import Model

from ..body_budget import BudgetShare
from ..errors import ApiError, server_stopping, to_api_error
from ..guard import BUDGET_SHARE
from ..json_values import count_values
from ..metrics import Metrics
from .model_pool import Lease, ModelPool, PoolEntry
from .workers import Indexed, ReplyWorkers

_LARGE = 2**16  # bytes of a body that takes a while to read
LOG = logging.getLogger("edge.server")
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Endpoint = Callable[[Request], Awaitable[Response]]
Writer = Callable[[Model, int, Cancellation], Generator[Event, None, None]]
Check = Callable[[Model, Cancellation], None]


class Dispatcher:
    """What the endpoints share. Lives in the event loop."""

    def __init__(self, pool: ModelPool) -> None:
        self.pool = pool
        self.limits = pool.limits
        self.metrics = Metrics(pool)
        self._replies: set[ReplyWorkers] = set()
        self._checks: set[Cancellation] = set()

    async def start(
        self,
        request: Request,
        name: str | None,
        count: int,
        write: Writer,
        check: Check | None = None,
    ) -> "ReplyStream":
        """`count` replies, begun: what the engine refuses is refused here, before the first byte of an answer.

        `check` is called before a turn is taken, in a thread, for what may take long. `write` makes the writer of a
        reply, in the event loop; what takes time belongs into the generator. Raises what they raise, ApiError, and
        ClientDisconnect where the client has gone.
        """
        return await cancel_on_disconnect(request, self._begin(self.pool.find(name), count, write, check))

    async def _begin(self, entry: PoolEntry, count: int, write: Writer, check: Check | None) -> "ReplyStream":
        start = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + self.limits.request_seconds
        if check is not None:
            await self._check(entry, check, deadline)
        lease = await self.pool.acquire(entry, count, deadline)
        cancellation = Cancellation()
        writers = [write(lease.model, index, cancellation) for index in range(count)]
        replies = ReplyWorkers(writers, cancellation, lease.deadline, lease.release)
        self._replies.add(replies)
        batches = replies.batches()
        try:
            first = await anext(batches)
        except BaseException:
            replies.close()
            self._replies.discard(replies)
            raise
        self.metrics.observe_ttft(lease.entry.name, time.perf_counter() - start)
        return ReplyStream(self, lease, replies, batches, first)

    async def _check(self, entry: PoolEntry, check: Check, deadline: float) -> None:
        loop, cancellation = asyncio.get_running_loop(), Cancellation()
        await entry.check_queue.acquire(1, deadline)
        try:
            model = await self.pool.load(entry)
        except BaseException:
            entry.check_queue.release(1)
            raise
        checked: asyncio.Future[None] = loop.create_future()

        def left(failure: Exception | None) -> None:
            entry.check_queue.release(1)
            if checked.done():
                return
            if failure is None:
                checked.set_result(None)
            else:
                checked.set_exception(failure)

        def run() -> None:
            failure = None
            try:
                check(model, cancellation)
            except Exception as exc:
                failure = exc
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(left, failure)

        self._checks.add(cancellation)
        try:
            Thread(target=run, name="check", daemon=True).start()
            async with asyncio.timeout_at(deadline):
                await checked
        except TimeoutError:
            raise ApiError(503, "the request waited for too long", code="timeout") from None
        finally:
            cancellation.cancel()
            self._checks.discard(cancellation)

    def release(self, replies: ReplyWorkers) -> None:
        replies.close()
        self._replies.discard(replies)

    def stop(self) -> None:
        """Ends all replies; who waits or comes is turned away."""
        self.pool.stop()
        for check in self._checks:
            check.cancel()
        for replies in self._replies:
            replies.finish_early()


@dataclass(slots=True)
class ReplyStream:
    """Replies of which the first events have come."""

    dispatcher: Dispatcher
    lease: Lease
    workers: ReplyWorkers
    rest: AsyncGenerator[list[Indexed], None]
    first: list[Indexed]

    async def batches(self) -> AsyncIterator[list[Indexed]]:
        """All events as they come, to the Finish of every reply. Stops the writers when it is left."""
        try:
            self._count(self.first)
            yield self.first
            async for batch in self.rest:
                self._count(batch)
                yield batch
        finally:
            self.dispatcher.release(self.workers)

    async def collect(self, request: Request) -> list[list[Event]]:
        """The events of each reply, when all have come. Raises ApiError where the server stops before that."""

        async def collect() -> list[list[Event]]:
            replies: list[list[Event]] = [[] for _ in range(self.lease.count)]
            async for batch in self.batches():
                for index, event in batch:
                    replies[index].append(event)
            return replies

        try:
            collected = await cancel_on_disconnect(request, collect())
        finally:
            self.dispatcher.release(self.workers)
        if self.workers.finished_early and self.dispatcher.pool.stopped:
            raise server_stopping()
        return collected

    def _count(self, batch: list[Indexed]) -> None:
        for _, event in batch:
            if isinstance(event, Finish):
                self.dispatcher.metrics.observe_usage(self.lease.entry.name, event.usage)


class EventStream(StreamingResponse):
    """Server-sent events. `close` is called at the end, also where the client has gone before the first."""

    def __init__(self, events: AsyncIterator[str], close: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


def stream(
    served: ReplyStream,
    write: Callable[[list[Indexed]], str],
    opening: str,
    ending: Callable[[], str],
    failure: Callable[[ApiError], str] | None = None,
) -> EventStream:
    """What `write` makes of each batch, between `opening` and `ending`. An error on the way is the last event."""

    async def lines() -> AsyncIterator[str]:
        batches = served.batches()
        try:
            yield opening
            async for batch in batches:
                yield write(batch)
            yield ending()
        except Exception as exc:
            told = _log_error(exc)
            yield failure(told) if failure else sse(told.body())
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    return EventStream(lines(), lambda: served.dispatcher.release(served.workers))


def sse(data: Any, event: str = "") -> str:
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"event: {event}\ndata: {text}\n\n" if event else f"data: {text}\n\n"


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Does the work while the client is there. Raises ClientDisconnect where it goes, and cancels the work."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for done in (task, watch):
            done.cancel()
            with suppress(BaseException):
                await done


async def read_body(request: Request, model: type[M]) -> M:
    """The body. Raises ApiError or ValidationError where it is not one."""
    content = await request.body() or b"{}"
    large = len(content) > _LARGE
    share: BudgetShare = request.scope[BUDGET_SHARE]
    if not large:
        share.set_values(count_values(content))
        return _parse(content, model)
    async with share.parse_lock:
        share.set_values(await asyncio.to_thread(count_values, content))
        return await asyncio.to_thread(_parse, content, model)


def _parse(content: bytes, model: type[M]) -> M:
    try:
        value = strict_json.parse(content)
    except ValueError as exc:
        raise ApiError(400, f"the body is not JSON: {exc}", code="invalid_value") from exc
    return model.model_validate(value)


def handle_errors(dispatcher: Dispatcher, path: str, endpoint: Endpoint) -> Endpoint:
    """The endpoint with its errors as answers, counted and logged without a word of what was said."""

    async def answer(request: Request) -> Response:
        start = time.perf_counter()
        try:
            response = await endpoint(request)
        except ClientDisconnect:
            response = Response(status_code=499)
        except Exception as exc:
            response = _log_error(exc).response()
        dispatcher.metrics.requests.labels(path, str(response.status_code)).inc()
        LOG.info("%s %s %d %.0f ms", request.method, path, response.status_code, (time.perf_counter() - start) * 1e3)
        return response

    return answer


def _log_error(exc: Exception) -> ApiError:
    """The answer to an error, which is logged where it is ours: its place and kind, since its words may be a user's."""
    told = to_api_error(exc)
    if told.code == "internal_error":
        LOG.error("%s\n%s", type(exc).__name__, "".join(traceback.format_tb(exc.__traceback__)))
    elif told.status >= 500:
        LOG.error("%s", told)
    _clear_frames(exc)
    return told


def _clear_frames(exc: BaseException | None) -> None:
    """Clear the local variables of the frames in an error's traceback, such as a body: frames and error refer to each
    other, and would keep it alive until the garbage collector runs."""
    while exc is not None:
        traceback.clear_frames(exc.__traceback__)
        exc = exc.__cause__ or exc.__context__
