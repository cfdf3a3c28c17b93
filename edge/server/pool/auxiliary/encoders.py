"""The embedding and reranking models of a server."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from runtime.errors import RequestError
from runtime.folder.model_folder import ModelFolder
from runtime.retrieval.embedding_model import EmbeddingModel
from runtime.retrieval.rerank_model import RerankModel
from runtime.retrieval.text_tokens import batches

from ...errors import ApiError
from .auxiliary_pool import AuxiliaryEntry, AuxiliaryPool

T = TypeVar("T")
MAX_TOKENS = 300_000  # of a request: OpenAI's limit
EncoderEntry = AuxiliaryEntry[EmbeddingModel | RerankModel]


class EncoderPool(AuxiliaryPool[EmbeddingModel | RerankModel]):
    """The embedding and reranking models that a server offers. They run in threads of this process."""

    def open(self, folder: ModelFolder) -> EmbeddingModel | RerankModel:
        """Load the model of a folder."""
        kind = EmbeddingModel if folder.manifest.task == "embedding" else RerankModel
        return kind(folder, device=self.device)

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
        async with self.turn(entry, client):
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
        async with self.turn(entry, client):
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
