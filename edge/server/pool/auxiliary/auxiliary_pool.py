"""The models that a server has beside those that chat: loaded on demand, one request at a time, unloaded when idle."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from runtime.folder.manifest import Task
from runtime.folder.model_folder import ModelFolder
from runtime.retrieval.encoder_graph import encoder_device

from ...errors import ApiError
from ...limits import Limits
from ..idle_watch import IdleTime, IdleWatch
from ..request_queue import RequestQueue

M = TypeVar("M")
KINDS: Mapping[Task, str] = {
    "chat": "a chat model",
    "embedding": "an embedding model",
    "rerank": "a reranking model",
    "transcription": "a speech recognition model",
    "speech": "a text-to-speech model",
}
PATHS: Mapping[Task, str] = {
    "chat": "/v1/chat/completions",
    "embedding": "/v1/embeddings",
    "rerank": "/v1/rerank",
    "transcription": "/v1/audio/transcriptions",
    "speech": "/v1/audio/speech",
}


@dataclass(slots=True)
class AuxiliaryEntry(Generic[M]):
    """The folder of a model, and the model once it is loaded. Requests use it one at a time."""

    name: str
    source: ModelFolder
    queue: RequestQueue
    model: M | None = None
    parent: None = None
    idle_time: IdleTime = field(default_factory=IdleTime)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self.model is not None

    @property
    def idle(self) -> bool:
        """Whether no request uses the model or waits for it."""
        return not self.queue.running and not self.queue.waiting

    @property
    def state(self) -> Literal["loaded", "unloaded"]:
        """Whether the model is loaded."""
        return "loaded" if self.loaded else "unloaded"

    @property
    def task(self) -> Task:
        """What the model does."""
        return self.source.manifest.task

    async def unload(self) -> None:
        """Free the model's memory: nothing else refers to the model."""
        self.model = None


class AuxiliaryPool(Generic[M]):
    """Models of one kind, by name. Use it in the event loop only. They run on the CPU, or on the GPU where `device` is
    one. Each stays in memory for `idle_seconds` after its last use, or for ever."""

    def __init__(self, device: str, limits: Limits, watch: IdleWatch, idle_seconds: float | None) -> None:
        self.entries: dict[str, AuxiliaryEntry[M]] = {}
        self.device = encoder_device(device)
        self.limits = limits
        self._idle_watch = watch
        self._idle_seconds = idle_seconds
        self._load_lock = asyncio.Lock()

    def add(self, name: str, folder: ModelFolder) -> None:
        """Add the model of a folder."""
        queue = RequestQueue(1, self.limits.waiting)
        self.entries[name] = self.new_entry(name, folder, queue, IdleTime(self._idle_seconds))

    def new_entry(self, name: str, folder: ModelFolder, queue: RequestQueue, idle_time: IdleTime) -> AuxiliaryEntry[M]:
        """Return an entry for a model, which is not loaded."""
        return AuxiliaryEntry(name, folder, queue, idle_time=idle_time)

    async def load(self, entry: AuxiliaryEntry[M]) -> M:
        """Return the loaded model. Raises what loading raises."""
        async with self._load_lock:
            entry.idle_time.touch()
            if entry.model is not None:
                return entry.model
            entry.model = model = await asyncio.to_thread(self.open, entry.source)
            entry.idle_time.touch()
            self._idle_watch.watch(entry)
            return model

    def open(self, folder: ModelFolder) -> M:
        """Load the model of a folder, in the thread of the caller."""
        raise NotImplementedError

    @asynccontextmanager
    async def turn(self, entry: AuxiliaryEntry[M], client: str) -> AsyncIterator[None]:
        """Wait for a turn of the model, and end what is done in it at the request's deadline. Raises ApiError."""
        deadline = asyncio.get_running_loop().time() + self.limits.request_seconds
        await entry.queue.acquire(1, deadline, client)
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError:
            raise ApiError(503, "the request timed out", code="timeout") from None
        finally:
            entry.idle_time.touch()
            entry.queue.release(1)

    def stop(self) -> None:
        """Reject every request that waits, and every later one."""
        for entry in self.entries.values():
            entry.queue.stop()
