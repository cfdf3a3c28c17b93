"""Turns of a model for batches: they come after everybody who waits, and never have more than half of a model's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..errors import server_stopping
from ..pool.dispatcher import Dispatcher
from ..pool.pool_entry import PoolEntry

_POLL = 0.02  # seconds between two looks at a queue


class BackgroundTurns:
    """The turns of all batches of a server. Use it in the event loop only."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._running: dict[str, int] = {}
        self._doors: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def turn(self, model: str | None) -> AsyncIterator[None]:
        """Wait until a request of a batch may enter the model's queue; its turn ends with the block.

        Raises what loading the model raises, and ApiError for an unknown one.
        """
        entry = self._dispatcher.pool.find(model)
        if entry.model is None:
            await self._dispatcher.pool.load(entry)  # how many it runs at once is known then
        async with self._doors.setdefault(entry.name, asyncio.Lock()):
            while not self._may_enter(entry):
                if self._dispatcher.pool.stopped:
                    raise server_stopping()
                await asyncio.sleep(_POLL)
            self._running[entry.name] = self._running.get(entry.name, 0) + 1
        try:
            yield
        finally:
            self._running[entry.name] -= 1

    def _may_enter(self, entry: PoolEntry) -> bool:
        own = self._running.get(entry.name, 0)
        return not entry.queue.waiting and entry.queue.running < entry.queue.limit and own < self._share(entry)

    def _share(self, entry: PoolEntry) -> int:
        return max(1, entry.queue.limit // 2)

    @property
    def most(self) -> int:
        """The most turns that a model has for batches."""
        return max(1, self._dispatcher.limits.running // 2)
