"""The embedding and reranking models of a server: each is loaded at its first request."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from runtime.errors import RequestError
from runtime.folder.manifest import Task
from runtime.folder.model_folder import ModelFolder
from runtime.retrieval.embedding_model import EmbeddingModel
from runtime.retrieval.encoder_graph import encoder_device
from runtime.retrieval.rerank_model import RerankModel
from runtime.retrieval.text_tokens import batches

from ..errors import ApiError
from ..limits import Limits
from .idle_watch import IdleTime, IdleWatch
from .request_queue import RequestQueue

T = TypeVar("T")
MAX_TOKENS = 300_000  # of a request: OpenAI's limit
KINDS: Mapping[Task, str] = {"chat": "a chat model", "embedding": "an embedding model", "rerank": "a reranking model"}
PATHS: Mapping[Task, str] = {"chat": "/v1/chat/completions", "embedding": "/v1/embeddings", "rerank": "/v1/rerank"}


@dataclass(slots=True)
class EncoderEntry:
    """The folder of an embedding or reranking model, and the model once it is loaded. Requests use it one at a time."""

    name: str
    source: ModelFolder
    queue: RequestQueue
    model: EmbeddingModel | RerankModel | None = None
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

    async def unload(self) -> None:
        """Free the model's memory: nothing else refers to the model."""
        self.model = None

    @property
    def task(self) -> Task:
        """What the model does."""
        return self.source.manifest.task


class EncoderPool:
    """The embedding and reranking models that a server offers, by name. Use it in the event loop only. They run in
    threads, on the CPU, or on the GPU where `device` is one. Each stays in memory for `idle_seconds` after its
    last use, or for ever."""

    def __init__(self, device: str, limits: Limits, watch: IdleWatch, idle_seconds: float | None) -> None:
        self.entries: dict[str, EncoderEntry] = {}
        self.device = encoder_device(device)
        self._limits = limits
        self._idle_watch = watch
        self._idle_seconds = idle_seconds
        self._load_lock = asyncio.Lock()

    def add(self, name: str, folder: ModelFolder) -> None:
        """Add the model of a folder."""
        queue = RequestQueue(1, self._limits.waiting)
        self.entries[name] = EncoderEntry(name, folder, queue, idle_time=IdleTime(self._idle_seconds))

    async def load(self, entry: EncoderEntry) -> EmbeddingModel | RerankModel:
        """Return the loaded model. Raises what loading raises."""
        async with self._load_lock:
            entry.idle_time.touch()
            if entry.model is not None:
                return entry.model
            load: Callable[..., EmbeddingModel | RerankModel] = (
                EmbeddingModel if entry.task == "embedding" else RerankModel
            )
            entry.model = model = await asyncio.to_thread(load, entry.source, device=self.device)
            entry.idle_time.touch()
            self._idle_watch.watch(entry)
            return model

    async def embed(
        self,
        entry: EncoderEntry,
        inputs: Sequence[str | Sequence[int]],
        convert: Callable[[Any], T],
        *,
        truncate: bool = False,
        client: str = "",
    ) -> tuple[list[T], int]:
        """Return the vector of each text or list of token ids, converted in the thread that made it, and the number of
        all tokens, in a turn of the `client`. Raises ApiError and BackendError."""

        async with self._turn(entry, client):
            model = await self.load(entry)
            assert isinstance(model, EmbeddingModel)
            ids = [
                await _in_thread(f"input[{index}]", model.encode, text, truncate=truncate)
                for index, text in enumerate(inputs)
            ]
            total = _require_total([len(each) for each in ids])
            found: dict[int, T] = {}
            for batch in batches([len(each) for each in ids]):
                vectors = await asyncio.to_thread(_embed, model, [ids[index] for index in batch], convert)
                found |= zip(batch, vectors, strict=True)
            return [found[index] for index in range(len(inputs))], total

    async def rerank(
        self, entry: EncoderEntry, query: str, documents: Sequence[str], *, client: str = ""
    ) -> tuple[list[float], int]:
        """Return the score of each document, and the number of all tokens, in a turn of the `client`. Raises ApiError
        and BackendError."""
        async with self._turn(entry, client):
            model = await self.load(entry)
            assert isinstance(model, RerankModel)
            pairs = [
                await _in_thread(f"documents[{index}]", model.encode, query, document)
                for index, document in enumerate(documents)
            ]
            counts = [len(ids) for ids, _ in pairs]
            total = _require_total(counts)
            found: dict[int, float] = {}
            for batch in batches(counts):
                scores = await asyncio.to_thread(model.score, [pairs[index] for index in batch])
                found |= zip(batch, scores, strict=True)
            return [found[index] for index in range(len(documents))], total

    @asynccontextmanager
    async def _turn(self, entry: EncoderEntry, client: str) -> AsyncIterator[None]:
        """Wait for a turn of the model, and end what is done in it at the request's deadline. Raises ApiError."""
        deadline = asyncio.get_running_loop().time() + self._limits.request_seconds
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


async def _in_thread(param: str, work: Callable[..., T], *args: Any, **settings: Any) -> T:
    """Run a check of a field in a thread. Raises ApiError, with the field, for what the model rejects."""
    try:
        return await asyncio.to_thread(work, *args, name=param, **settings)
    except RequestError as exc:
        raise ApiError(400, f"{exc}; {exc.hint}", param=param, code="invalid_value") from exc


def _embed(model: EmbeddingModel, batch: Sequence[Sequence[int]], convert: Callable[[Any], T]) -> list[T]:
    return [convert(vector) for vector in model.embed(batch)]


def _require_total(counts: Sequence[int]) -> int:
    """Return the number of all tokens. Raises ApiError for too many."""
    if (total := sum(counts)) > MAX_TOKENS:
        message = f"the request has {total:,} tokens, and may have {MAX_TOKENS:,}; send fewer texts at once"
        raise ApiError(400, message, param="input", code="too_many")
    return total
