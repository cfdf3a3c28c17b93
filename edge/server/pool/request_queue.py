"""Whose turn it is: so many replies at once, so many that wait in their order, and the rest is turned away."""

import asyncio
from collections import deque

from ..errors import ApiError, server_stopping


class RequestQueue:
    """Lives in the event loop."""

    def __init__(self, running: int, waiting: int) -> None:
        self.running = 0
        self.limit = running
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._room = waiting
        self._stopped = False

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def acquire(self, count: int, deadline: float) -> None:
        """Waits for `count` turns, until the loop's time is `deadline`. Raises ApiError where there is no room to wait,
        or they do not come."""
        if self._stopped:
            raise server_stopping()
        if not self._queue and self.running + count <= self.limit:
            self.running += count
            return
        if len(self._queue) >= self._room:
            raise ApiError(
                429, f"{self.running + len(self._queue)} requests are served or wait already", code="queue_full"
            )
        turn = asyncio.get_running_loop().create_future()
        entry = (count, turn)
        self._queue.append(entry)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except (TimeoutError, asyncio.CancelledError) as exc:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(count)  # it came at the same moment
            if isinstance(exc, TimeoutError):
                raise ApiError(503, "the request waited for too long", code="timeout") from None
            raise
        finally:
            if entry in self._queue:
                self._queue.remove(entry)
                self._next()

    def release(self, count: int) -> None:
        """Gives the turns back."""
        self.running -= count
        self._next()

    def stop(self) -> None:
        """Turns away all who wait, and all who come."""
        self._stopped = True
        while self._queue:
            _, turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(server_stopping())

    def _next(self) -> None:
        while self._queue and self.running + self._queue[0][0] <= self.limit:
            count, turn = self._queue.popleft()
            if not turn.done():
                self.running += count
                turn.set_result(None)
