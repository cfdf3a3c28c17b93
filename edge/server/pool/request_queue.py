"""A first-in, first-out queue for a model: it bounds the replies that run, and the requests that wait."""

import asyncio
from collections import deque

from ..errors import ApiError, server_stopping


class RequestQueue:
    """`running` slots for replies, and room for `waiting` requests behind them. Use it in the event loop only."""

    def __init__(self, running: int, waiting: int) -> None:
        self.running = 0
        self.limit = running
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._room = waiting
        self._stopped = False

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return len(self._waiters)

    async def acquire(self, count: int, deadline: float) -> None:
        """Wait for `count` slots, until `deadline` in the loop's time. Raises ApiError if the queue is full or the
        deadline passes."""
        if self._stopped:
            raise server_stopping()
        if not self._waiters and self.running + count <= self.limit:
            self.running += count
            return
        if len(self._waiters) >= self._room:
            waiting = self.running + len(self._waiters)
            raise ApiError(429, f"the queue is full: {waiting} requests are running or waiting", code="queue_full")
        granted = asyncio.get_running_loop().create_future()
        waiter = (count, granted)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await granted
        except (TimeoutError, asyncio.CancelledError) as exc:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.release(count)  # granted at the same moment
            if isinstance(exc, TimeoutError):
                raise ApiError(503, "the request timed out while waiting in the queue", code="timeout") from None
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._grant()

    def release(self, count: int) -> None:
        """Return `count` slots."""
        self.running -= count
        self._grant()

    def stop(self) -> None:
        """Reject every request that waits, and every later one."""
        self._stopped = True
        while self._waiters:
            _, granted = self._waiters.popleft()
            if not granted.done():
                granted.set_exception(server_stopping())

    def _grant(self) -> None:
        while self._waiters and self.running + self._waiters[0][0] <= self.limit:
            count, granted = self._waiters.popleft()
            if not granted.done():
                self.running += count
                granted.set_result(None)
