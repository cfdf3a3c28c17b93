"""The unloading of models that no request has used for a while."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from runtime.system.awake_time import awake_time

from ..logs.log import LOG

# From the end of a model's time to the first look at it, and between two looks: a request that sets its time to 0 is in
# the queue by then.
_POLL_SECONDS = 0.25


@dataclass(slots=True)
class IdleTime:
    """For how long a model stays in memory after its last use: `seconds`, or for ever. `last_used` is in seconds in
    which the machine was awake: after a night's sleep it is as it was."""

    seconds: float | None = None
    last_used: float = 0.0
    timer: asyncio.TimerHandle | None = None

    def touch(self) -> None:
        """Note a use of the model."""
        self.last_used = awake_time()

    @property
    def left(self) -> float | None:
        """The seconds that are left now; None for ever."""
        return None if self.seconds is None else self.last_used + self.seconds - awake_time()


class Unloadable(Protocol):
    """A model of the server that can be unloaded: its next request loads it again."""

    name: str
    idle_time: IdleTime

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        ...

    @property
    def idle(self) -> bool:
        """Whether no request uses the model or waits for it."""
        ...

    async def unload(self) -> None:
        """Free the model's memory."""
        ...


class IdleWatch:
    """A timer for each model, which unloads it when its time is up. Nothing loads or unloads one while the `lock` is
    locked. Use it in the event loop only."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._running: set[asyncio.Task[None]] = set()

    def watch(self, entry: Unloadable) -> None:
        """Set the timer of a model that is loaded now, or whose time has changed."""
        if entry.idle_time.timer is not None:
            entry.idle_time.timer.cancel()
        left = entry.idle_time.left
        entry.idle_time.timer = None if left is None else self._call_later(max(left, _POLL_SECONDS), entry)

    def _call_later(self, seconds: float, entry: Unloadable) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._start, entry)

    def _start(self, entry: Unloadable) -> None:
        entry.idle_time.timer = None
        task = asyncio.ensure_future(self._end(entry))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _end(self, entry: Unloadable) -> None:
        """Unload a model whose time is up, or set its timer again."""
        async with self._lock:
            left = entry.idle_time.left
            if not entry.loaded or left is None or entry.idle_time.timer is not None:
                return
            if left > 0 or not entry.idle:
                entry.idle_time.timer = self._call_later(max(left, _POLL_SECONDS), entry)
                return
            await entry.unload()
        LOG.info("%s is unloaded: nothing has used it for %.0f s", entry.name, entry.idle_time.seconds)
