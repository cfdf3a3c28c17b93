"""The models of a server: each is loaded at its first request, and closed when another needs the memory."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from runtime.backends.backend import Options
from runtime.checkpoint.adapters.reference import AdapterReference
from runtime.errors import RequestError
from runtime.folder.manifest import Task
from runtime.folder.model_folder import ModelFolder
from runtime.model import Model
from runtime.prompt import families
from runtime.sampling import Sampling
from runtime.source import ModelSource, open_source, validate_adapters
from runtime.speech.speech_process import SpeechProcess

from ..errors import ApiError, server_stopping
from ..limits import Limits
from ..logs.log import LOG
from . import memory
from .auxiliary.auxiliary_pool import KINDS, PATHS, AuxiliaryEntry
from .auxiliary.encoders import EncoderEntry, EncoderPool
from .auxiliary.speech import SpeechPool
from .idle_watch import IdleTime, IdleWatch, Unloadable
from .model_names import ModelNames, parse_folder
from .pool_entry import Lease, PoolEntry, State
from .request_queue import RequestQueue

M = TypeVar("M")
AnyAuxiliary = EncoderEntry | AuxiliaryEntry[SpeechProcess]


class ModelPool:
    """The models that a server offers, by name. Use it in the event loop only.

    `folders` are paths, NAME=FOLDER, or paths by name; `aliases` are further names. `device`, `fallback` and `options`
    are those of `Model`; `sampling` overrides the checkpoints' own. A model that nothing has used for `idle_seconds` is
    closed, and loaded again at its next request. Raises ModelFolderError or CheckpointError for a folder that is
    neither.
    """

    def __init__(
        self,
        folders: Sequence[str | Path] | Mapping[str, str | Path],
        *,
        adapters: Mapping[str, Sequence[AdapterReference]] = {},
        aliases: Mapping[str, str] = {},
        device: str = "auto",
        fallback: Sequence[str] = (),
        options: Options = Options(),
        sampling: Sampling = Sampling(),
        limits: Limits = Limits(),
        idle_seconds: float | None = None,
    ) -> None:
        self.limits = limits
        self.stopped = False
        self.has_loaded = False  # whether any model has been loaded, even if it is not any more
        self.names = ModelNames()
        self.device = device
        self.fallback = fallback
        self._sampling = sampling
        self._idle_seconds = idle_seconds
        self.load_lock = asyncio.Lock()  # models are loaded one at a time
        self._idle_watch = IdleWatch(self.load_lock)
        self.retired: list[PoolEntry] = []  # replaced models, until they have answered their last request
        self.entries: dict[str, PoolEntry] = {}
        self.encoders = EncoderPool(device, limits, self._idle_watch, idle_seconds)
        self.speech = SpeechPool(device, limits, self._idle_watch, idle_seconds)
        named = folders.items() if isinstance(folders, Mapping) else [parse_folder(str(path)) for path in folders]
        for name, path in named:
            source = open_source(path)
            if source.manifest.task == "chat":
                self._add(name, source, options)
                continue
            self.names.add(name, source.manifest.source.name)
            others = self.speech if source.manifest.task in ("transcription", "speech") else self.encoders
            others.add(name, ModelFolder.open(source.path))
        if adapters and len(self.entries) != 1:
            raise RequestError(
                "adapters need exactly one model folder", hint="serve each folder by a server of its own"
            )
        for name, references in adapters.items():
            (parent, first), *_ = self.entries.items()
            with_adapters = replace(options, adapters=(*options.adapters, *references))
            validate_adapters(first.source, references)
            self._add(name, first.source, with_adapters, parent)
        for alias, name in aliases.items():
            self.names.add_alias(alias, name)

    @property
    def loading(self) -> bool:
        """Whether a model is being loaded."""
        return any(entry.loading for entry in self.entries.values())

    @property
    def state(self) -> State:
        """The state of the models together: loading if one is, else loaded if one is."""
        states = {entry.state for entry in self.entries.values()}
        return "loading" if "loading" in states else "loaded" if "loaded" in states else "unloaded"

    def _add(self, name: str, source: ModelSource, options: Options, parent: str | None = None) -> None:
        self.names.add(name, source.manifest.source.name)
        self.entries[name] = self.new_entry(name, source, options, parent)

    def new_entry(self, name: str, source: ModelSource, options: Options, parent: str | None = None) -> PoolEntry:
        """Return an entry for a model, which is not loaded."""
        queue = RequestQueue(self.limits.running, self.limits.waiting)
        check_queue = RequestQueue(self.limits.waiting, self.limits.waiting)
        sampling = source.sampling().merge(self._sampling)
        idle_time = IdleTime(self._idle_seconds)
        return PoolEntry(name, source, queue, check_queue, options, sampling, parent, idle_time=idle_time)

    @property
    def auxiliary(self) -> dict[str, AnyAuxiliary]:
        """The entries of the models that do not chat, by name."""
        return {**self.encoders.entries, **self.speech.entries}

    @property
    def reads_pictures(self) -> bool:
        """Whether a model of the pool reads pictures."""
        return any(reads_pictures(entry.source) for entry in self.entries.values())

    @property
    def chat_bytes(self) -> int:
        """The limit of the body of a chat request."""
        return max(self.limits.body_bytes, self.limits.picture_body_bytes if self.reads_pictures else 0)

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names of all models: those that chat come first."""
        return (*self.entries, *self.auxiliary)

    def find_encoder(self, name: str | None, task: Task) -> EncoderEntry:
        """Return the entry of an embedding or reranking model; the first one for None. Raises ApiError: 404 for an
        unknown name, 400 for a model that does something else."""
        return self._find_auxiliary(self.encoders.entries, name, task)

    def find_speech(self, name: str | None, task: Task) -> AuxiliaryEntry[SpeechProcess]:
        """Return the entry of a speech model, as `find_encoder` does."""
        return self._find_auxiliary(self.speech.entries, name, task)

    def _find_auxiliary(
        self, entries: Mapping[str, AuxiliaryEntry[M]], name: str | None, task: Task
    ) -> AuxiliaryEntry[M]:
        of_task = [entry for entry in entries.values() if entry.task == task]
        if name is None and of_task:
            return of_task[0]
        if name is None:
            message = f"this server does not have {KINDS[task]}: start `edge serve` with the folder of one, too"
            raise ApiError(404, message, param="model", code="model_not_found")
        entry = entries.get(self.names.find(name) or "")
        if entry is None or entry.task != task:
            found = self.find_any(name)
            raise _wrong_task(found.name, found.source.manifest.task, task)
        return entry

    def find_any(self, name: str | None) -> PoolEntry | AnyAuxiliary:
        """Return the entry of a model, whatever it does. Raises ApiError (404)."""
        found = self.auxiliary.get(self.names.find(name) or "") if name is not None else None
        return found or self.find(name)

    def find(self, name: str | None) -> PoolEntry:
        """Return the entry by its name, its checkpoint's, or an alias; the first one for None. Raises ApiError: 404 for
        an unknown name, 400 for a model that does not chat."""
        if name is None and self.entries:
            return next(iter(self.entries.values()))
        found = next(iter(self.auxiliary)) if name is None else self.names.find(name)
        if found in self.auxiliary:
            raise _wrong_task(found, self.auxiliary[found].task, "chat")
        if found is None:
            raise ApiError(
                404,
                f"there is no model {name!r} here; GET /v1/models lists them",
                param="model",
                code="model_not_found",
            )
        return self.entries[found]

    async def acquire(self, entry: PoolEntry, count: int, deadline: float, client: str = "") -> Lease:
        """Wait for slots, until `deadline` in the loop's time, and load the model if it is not loaded. A request for
        `count` replies gets no more slots than one request may have; slots are shared out among the clients."""
        count = min(count, self.limits.replies_at_once, entry.queue.limit)
        await entry.queue.acquire(count, deadline, client)
        try:
            return Lease(entry, await self.load(entry), count, deadline)
        except BaseException:
            entry.queue.release(count)
            raise

    async def load(self, entry: PoolEntry) -> Model:
        """Return the loaded model. Raises what loading raises, and ApiError if the models in use leave no memory."""
        if self.stopped:
            raise server_stopping()
        if entry.model is not None and entry.model.backend.alive:  # the caller's slot keeps it from being closed
            entry.idle_time.touch()
            return entry.model
        loading = asyncio.ensure_future(self._load(entry))
        loading.add_done_callback(_retrieve_exception)
        return await asyncio.shield(loading)  # goes on if the client disconnects: a half-loaded model would be lost

    def keep(self, entry: PoolEntry | AnyAuxiliary, seconds: float | None) -> None:
        """Keep a model in memory for `seconds` after its last use; None is the pool's own time, infinity for ever."""
        wanted = self._idle_seconds if seconds is None else seconds
        entry.idle_time.seconds = None if wanted == float("inf") else wanted
        entry.idle_time.touch()
        self._idle_watch.watch(entry)

    @asynccontextmanager
    async def use(self, entry: PoolEntry) -> AsyncIterator[Model]:
        """Load the model, and keep it from being closed until the end of the block. For short work that needs no slot
        of the queue. Raises what `load` does."""
        entry.users += 1
        try:
            yield await self.load(entry)
        finally:
            entry.users -= 1
            entry.idle_time.touch()

    async def _load(self, entry: PoolEntry) -> Model:
        async with self.load_lock:
            if self.stopped:
                raise server_stopping()
            if entry.model is not None and not entry.model.backend.alive:
                dead, entry.model = entry.model, None
                await asyncio.to_thread(dead.close)
            if entry.model is None:
                entry.loading = True
                try:
                    await self._make_room(entry)
                    await self.fill(entry)
                finally:
                    entry.loading = False
            else:
                entry.idle_time.touch()
                self._idle_watch.watch(entry)
            assert entry.model is not None
            return entry.model

    async def fill(self, entry: PoolEntry) -> None:
        """Load the model of an entry, under the lock. Raises what loading raises."""
        entry.model = await self._open(entry)
        self.has_loaded = True
        entry.queue.limit = min(entry.queue.limit, entry.model.backend.max_requests)
        entry.idle_time.touch()
        self._idle_watch.watch(entry)

    async def _open(self, entry: PoolEntry) -> Model:
        LOG.info("%s is being loaded", entry.name)
        start = time.monotonic()
        try:
            model = await asyncio.to_thread(
                Model,
                entry.source,
                device=self.device,
                fallback=self.fallback,
                options=entry.options,
                progress=entry.report,
            )
        finally:
            entry.progress = None
        model.sampling = entry.sampling
        LOG.info("%s is loaded, after %.1f s", entry.name, time.monotonic() - start)
        return model

    async def _make_room(self, wanted: PoolEntry) -> None:
        """Close idle models, the least recently used first, until `wanted` fits the memory."""
        while await asyncio.to_thread(memory.memory_is_short, wanted.source, self.device, wanted.options):
            every: list[Unloadable] = [*self.entries.values(), *self.auxiliary.values()]
            loaded = [entry for entry in every if entry.loaded]
            idle = sorted((entry for entry in loaded if entry.idle), key=lambda entry: entry.idle_time.last_used)
            if not idle:
                if loaded:
                    raise ApiError(503, "the models in use leave no memory for this one", code="no_memory")
                return  # the loader reports what is missing
            await idle[0].unload()
            LOG.info("%s is unloaded: %s needs the memory", idle[0].name, wanted.name)

    def stop(self) -> None:
        """Reject every request that waits, and every later one."""
        self.stopped = True
        self.encoders.stop()
        self.speech.stop()
        for entry in (*self.entries.values(), *self.retired):
            entry.queue.stop()
            entry.check_queue.stop()

    def close(self) -> None:
        """Close all models."""
        self.speech.close()
        for entry in (*self.entries.values(), *self.retired):
            if entry.model is not None:
                entry.model.close()
                entry.model = None


def reads_pictures(source: ModelSource) -> bool:
    """Return whether a model reads pictures beside text."""
    return families.get(source.manifest.family).pictures is not None


def _wrong_task(name: str, task: Task, wanted: Task) -> ApiError:
    """Return the error for a model that does something else than what is wanted."""
    message = f"{name} is {KINDS[task]}, not {KINDS[wanted]}: it answers {PATHS[task]}"
    return ApiError(400, message, param="model", code="unsupported_model")


def _retrieve_exception(loading: "asyncio.Future[Model]") -> None:
    """Retrieve the task's exception, so that asyncio does not log it as never retrieved."""
    if not loading.cancelled():
        loading.exception()
