"""The models that a server has: loaded when they are asked for, put back when memory is short."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runtime.backends.backend import Options
from runtime.backends.openvino.npu import NPU
from runtime.backends.openvino.subprocess import SubprocessBackend
from runtime.checkpoint.checkpoint import Folder, open_folder
from runtime.device.choose import assess_devices
from runtime.device.machine import detect
from runtime.errors import DeviceError, RequestError
from runtime.folder.model_folder import ModelFolder
from runtime.model import Model
from runtime.text import replace_surrogates

from ..errors import ApiError, server_stopping
from ..limits import Limits
from .request_queue import RequestQueue


@dataclass(slots=True)
class PoolEntry:
    """A model folder, its model while it is loaded, and when it was last lent (seconds of the monotonic clock).

    Before a request takes one of `turns`, what it asks for may be tried, under one of `trials`."""

    name: str
    folder: Folder
    queue: RequestQueue
    check_queue: RequestQueue
    model: Model | None = None
    last_used: float = 0.0
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def idle(self) -> bool:
        return self.queue.running == self.queue.waiting == self.check_queue.running == 0


@dataclass(frozen=True, slots=True)
class Lease:
    """`count` turns at a model, until `give_back`."""

    entry: PoolEntry
    model: Model
    count: int
    deadline: float

    def release(self) -> None:
        self.entry.last_used = time.monotonic()
        self.entry.queue.release(self.count)


class ModelPool:
    """Lives in the event loop. Raises ModelFolderError or CheckpointError where a folder is not one."""

    def __init__(
        self,
        folders: Sequence[str | Path],
        *,
        device: str = "auto",
        options: Options = Options(),
        limits: Limits = Limits(),
    ) -> None:
        self.limits = limits
        self.stopped = False
        self.loading = False
        self._device = device
        self._options = options
        self._load_lock = asyncio.Lock()  # one is loaded at a time
        self.entries: dict[str, PoolEntry] = {}
        for path in folders:
            folder = open_folder(path)
            name = replace_surrogates(folder.path.resolve().name)
            if name in self.entries:
                raise RequestError(f"two folders are named {name}", hint="rename one: clients ask by that name")
            self.entries[name] = PoolEntry(
                name, folder, RequestQueue(limits.running, limits.waiting), RequestQueue(limits.waiting, 0)
            )

    def find(self, name: str | None) -> PoolEntry:
        """By the folder's name, or the checkpoint's; the first where none is asked for."""
        if name is None:
            return next(iter(self.entries.values()))
        for entry in self.entries.values():
            if name in (entry.name, entry.folder.manifest.source.name):
                return entry
        raise ApiError(
            404, f"there is no model {name!r} here; GET /v1/models lists them", param="model", code="model_not_found"
        )

    async def acquire(self, entry: PoolEntry, count: int, deadline: float) -> Lease:
        """Waits for `count` turns, until the loop's time is `deadline`, and loads the model if need be."""
        if count > entry.queue.limit:
            raise ApiError(400, f"at most {entry.queue.limit} replies at once here", param="n", code="invalid_value")
        await entry.queue.acquire(count, deadline)
        try:
            return Lease(entry, await self.load(entry), count, deadline)
        except BaseException:
            entry.queue.release(count)
            raise

    async def load(self, entry: PoolEntry) -> Model:
        """The loaded model. Raises what loading does, and ApiError where others in use leave no room."""
        if self.stopped:
            raise server_stopping()
        if entry.model is not None and _alive(entry.model):  # who holds a turn at it keeps it from being put back
            return entry.model
        loading = asyncio.ensure_future(self._load(entry))
        loading.add_done_callback(_retrieve_exception)
        return await asyncio.shield(loading)  # goes on where the client hangs up: a model half loaded would be lost

    async def _load(self, entry: PoolEntry) -> Model:
        async with self._load_lock:
            if self.stopped:
                raise server_stopping()
            if entry.model is not None and not _alive(entry.model):
                dead, entry.model = entry.model, None
                await asyncio.to_thread(dead.close)
            if entry.model is None:
                await self._make_room(entry)
                self.loading = True
                try:
                    entry.model = await asyncio.to_thread(
                        Model, entry.folder, device=self._device, options=self._options
                    )
                finally:
                    self.loading = False
                if isinstance(entry.model.backend, NPU):
                    entry.queue.limit = 1
            entry.last_used = time.monotonic()
            return entry.model

    async def _make_room(self, wanted: PoolEntry) -> None:
        """Closes models that nobody uses, the one that was lent longest ago first, until this one has room."""
        while await asyncio.to_thread(_memory_is_short, wanted.folder, self._device, self._options):
            loaded = [entry for entry in self.entries.values() if entry.model is not None]
            idle = sorted((entry for entry in loaded if entry.idle), key=lambda entry: entry.last_used)
            if not idle:
                if loaded:
                    raise ApiError(503, "the models in use leave no room for this one", code="no_memory")
                return  # the loader says what is missing
            oldest, idle[0].model = idle[0].model, None
            if oldest is not None:
                await asyncio.to_thread(oldest.close)

    def stop(self) -> None:
        self.stopped = True
        for entry in self.entries.values():
            entry.queue.stop()
            entry.check_queue.stop()

    def close(self) -> None:
        """Frees all models."""
        for entry in self.entries.values():
            if entry.model is not None:
                entry.model.close()
                entry.model = None


def _retrieve_exception(loading: "asyncio.Future[Model]") -> None:
    """Retrieve the task's exception, so that asyncio does not log it as never retrieved."""
    if not loading.cancelled():
        loading.exception()


def _alive(model: Model) -> bool:
    return not isinstance(model.backend, SubprocessBackend) or model.backend.alive


def responds(model: Model) -> bool:
    """Whether the model's engine process is alive and not stopped."""
    return not isinstance(model.backend, SubprocessBackend) or model.backend.responds


def _memory_is_short(folder: Folder, device: str, options: Options) -> bool:
    """Whether memory is short for it."""
    if not isinstance(folder, ModelFolder):
        return False
    with suppress(DeviceError):
        found = assess_devices(detect(), folder.manifest, options)
        wanted = [fit for fit in found if device.upper() in ("AUTO", fit.device)]
        return bool(wanted) and all(fit.obstacle for fit in wanted)
    return False
