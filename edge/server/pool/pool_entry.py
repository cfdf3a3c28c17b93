"""A model of the pool: its folder, its requests, and the model itself while it is loaded."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Literal

from runtime.backends.backend import Options
from runtime.model import Model
from runtime.progress import Progress
from runtime.sampling import Sampling
from runtime.source import ModelSource

from .idle_watch import IdleTime
from .request_queue import RequestQueue

State = Literal["loaded", "loading", "unloaded"]


@dataclass(slots=True)
class PoolEntry:
    """A model folder, its model while it is loaded, and for how long that stays in memory.

    `options` are those of loading it, `sampling` that of requests that set none; `parent` is the name of the model
    without this one's adapters, if it has any. `progress` is the part of a load that is done, from 0 to 1, where the
    engine tells it. `check_queue` bounds the checks of requests that have not entered
    `queue` yet; `users` counts what else uses the model.
    """

    name: str
    source: ModelSource
    queue: RequestQueue
    check_queue: RequestQueue
    options: Options = Options()
    sampling: Sampling = Sampling()
    parent: str | None = None
    model: Model | None = None
    loading: bool = False
    progress: float | None = None
    users: int = 0
    idle_time: IdleTime = field(default_factory=IdleTime)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def idle(self) -> bool:
        """Whether no request uses the model or waits for it."""
        queues = (self.queue, self.check_queue)
        return not self.users and not any(queue.running or queue.waiting for queue in queues)

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self.model is not None

    @property
    def state(self) -> State:
        """Whether the model is loaded, or is being loaded."""
        return "loading" if self.loading else "unloaded" if self.model is None else "loaded"

    def report(self, progress: Progress) -> None:
        """Note how far a load is; called in its thread."""
        self.progress = min(progress.done / progress.total, 1.0) if progress.total else None

    async def unload(self) -> None:
        """Close the model, in a thread."""
        model, self.model = self.model, None
        if model is not None:
            await asyncio.to_thread(model.close)


@dataclass(frozen=True, slots=True)
class Lease:
    """`count` slots of a loaded model, until `release`."""

    entry: PoolEntry
    model: Model
    count: int
    deadline: float

    def release(self) -> None:
        """Return the slots."""
        self.entry.idle_time.touch()
        self.entry.queue.release(self.count)
