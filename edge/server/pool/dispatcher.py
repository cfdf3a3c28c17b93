"""The path of a request to its replies: check, queue, model, threads, and cancellation if the client disconnects."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from runtime.cancellation import Cancellation
from runtime.events import Event, Finish
from runtime.model import Model

from ..errors import ApiError, server_stopping
from ..logs.request_record import CLIENT, record_first_token
from .metrics import Metrics
from .model_pool import ModelPool
from .pool_entry import PoolEntry
from .workers import Batch, ReplyEvents, ReplyWorkers

T = TypeVar("T")


class ReplyJob:
    """The job of a request: `count` replies of a model, each begun by `start`.

    With `needs_check`, `check` runs before the request enters the model's queue. `check` and `start` run in threads, so
    they may block.
    """

    needs_check = False

    def __init__(self, model: str | None, count: int = 1) -> None:
        self.model = model
        self.count = count

    def check(self, model: Model, cancellation: Cancellation) -> None:
        """Reject a request that would cost others too much. Raises ApiError."""

    def start(self, model: Model, index: int) -> ReplyEvents:
        """Begin the reply of that index."""
        raise NotImplementedError

    def map_error(self, error: BaseException) -> BaseException:
        """Return the error to answer with, such as an ApiError that names a field of the request."""
        return error


class Dispatcher:
    """A dispatcher that runs the replies of all requests until `stop`. Use it in the event loop only."""

    def __init__(self, pool: ModelPool) -> None:
        self.pool = pool
        self.limits = pool.limits
        self.metrics = Metrics(pool)
        self._workers: set[ReplyWorkers] = set()
        self._checks: set[Cancellation] = set()

    async def start(self, request: Request, job: ReplyJob, *, stream: bool = False) -> "ReplyStream":
        """Begin the job's replies and wait for their first events, so that an error is raised here, before the first
        byte of the response. For a streamed response wait no longer than `grace_seconds`: it sends its headers while
        the request is in the queue.

        Raises what the job raises, ApiError, and ClientDisconnect if the client has disconnected.
        """
        entry = self.pool.find(job.model)
        starting = asyncio.ensure_future(self._start(request, entry, job))
        replies = ReplyStream(self, entry, job.count, starting)
        try:
            await cancel_on_disconnect(request, replies.wait(self.limits.grace_seconds if stream else None))
        except BaseException:
            replies.close()
            raise
        return replies

    async def _start(self, request: Request, entry: PoolEntry, job: ReplyJob) -> "_StartedReplies":
        start, client = time.perf_counter(), request.scope.get(CLIENT, "")
        deadline = asyncio.get_running_loop().time() + self.limits.request_seconds
        if job.needs_check:
            await self._check(entry, job, deadline, client)
        lease = await self.pool.acquire(entry, job.count, deadline, client)
        model = lease.model
        starts = [partial(job.start, model, index) for index in range(job.count)]
        workers = ReplyWorkers(starts, job.map_error, lease.deadline, lease.release, threads=lease.count)
        self._workers.add(workers)
        try:
            first = await workers.next_batch()
        except BaseException:
            self.release(workers)
            raise
        record_first_token(request.scope)
        self.metrics.observe_ttft(entry.name, time.perf_counter() - start)
        return _StartedReplies(workers, first)

    async def _check(self, entry: PoolEntry, job: ReplyJob, deadline: float, client: str) -> None:
        """Run the job's check in a thread, in a slot that it keeps until its end, even if the client disconnects."""
        loop, cancellation = asyncio.get_running_loop(), Cancellation()
        await entry.check_queue.acquire(1, deadline, client)
        try:
            model = await self.pool.load(entry)
        except BaseException:
            entry.check_queue.release(1)
            raise
        checked: asyncio.Future[None] = loop.create_future()

        def finish(error: BaseException | None) -> None:
            entry.check_queue.release(1)
            if checked.done():
                return
            if error is None:
                checked.set_result(None)
            else:
                checked.set_exception(error)

        def run() -> None:
            error: BaseException | None = None
            try:
                job.check(model, cancellation)
            except Exception as exc:  # noqa: BLE001
                error = job.map_error(exc)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish, error)

        self._checks.add(cancellation)
        try:
            Thread(target=run, name="check", daemon=True).start()
            async with asyncio.timeout_at(deadline):
                await checked
        except TimeoutError:
            raise ApiError(503, "the request timed out while it was checked", code="timeout") from None
        finally:
            cancellation.cancel()
            self._checks.discard(cancellation)

    def release(self, workers: ReplyWorkers) -> None:
        """Cancel the replies, if they have not ended, and remove them from the list."""
        workers.close()
        self._workers.discard(workers)

    def stop(self) -> None:
        """End all replies, and reject every request that waits or is yet to come."""
        self.pool.stop()
        for check in self._checks:
            check.cancel()
        for workers in self._workers:
            workers.finish_early()


@dataclass(frozen=True, slots=True)
class _StartedReplies:
    """Replies that have left the queue, and their first events."""

    workers: ReplyWorkers
    first: Batch


class ReplyStream:
    """The replies of a request, which may still be in the model's queue. Close it after use: a request that waits
    then leaves the queue."""

    def __init__(
        self, dispatcher: Dispatcher, entry: PoolEntry, count: int, starting: "asyncio.Future[_StartedReplies]"
    ) -> None:
        self.limits = dispatcher.limits
        self._dispatcher = dispatcher
        self._entry = entry
        self._count = count
        self._starting = starting
        self._workers: ReplyWorkers | None = None  # once `_starting` has been awaited
        starting.add_done_callback(_retrieve_exception)

    async def wait(self, seconds: float | None) -> None:
        """Wait for the first events, at most `seconds`. Raises what the replies' start raised."""
        await asyncio.wait({self._starting}, timeout=seconds)
        if self._starting.done():
            self._starting.result()

    async def next_batch(self) -> Batch:
        """Wait for the next events of any reply; [] once every reply has finished. Raises what a reply raised. A call
        that is cancelled loses no event."""
        if self._workers is None:
            started = await asyncio.shield(self._starting)
            self._workers, batch = started.workers, started.first
        else:
            batch = await self._workers.next_batch()
        for _, event in batch:
            if isinstance(event, Finish):
                self._dispatcher.metrics.observe_usage(self._entry.name, event.usage)
        return batch

    async def collect(self, request: Request) -> list[list[Event]]:
        """Wait for the end of every reply and return the events of each. Raises ApiError if the server stops first."""

        async def read_all() -> list[list[Event]]:
            replies: list[list[Event]] = [[] for _ in range(self._count)]
            while batch := await self.next_batch():
                for index, event in batch:
                    replies[index].append(event)
            return replies

        try:
            collected = await cancel_on_disconnect(request, read_all())
        finally:
            self.close()
        if self._workers and self._workers.finished_early and self._dispatcher.pool.stopped:
            raise server_stopping()
        return collected

    def close(self) -> None:
        """Cancel the replies, if they have not ended."""
        if not self._starting.done():
            self._starting.cancel()
        elif not self._starting.cancelled() and self._starting.exception() is None:
            self._dispatcher.release(self._starting.result().workers)


def _retrieve_exception(starting: "asyncio.Future[_StartedReplies]") -> None:
    """Retrieve the exception of replies that nobody waits for any more, so that asyncio does not log it."""
    if not starting.cancelled():
        starting.exception()


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. If the client disconnects first, cancel it and raise ClientDisconnect."""

    async def wait_for_disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(wait_for_disconnect())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for future in (task, watch):
            if future.done():  # awaiting it again would take the traceback from its exception
                future.cancelled() or future.exception()
                continue
            future.cancel()
            with suppress(BaseException):
                await future
