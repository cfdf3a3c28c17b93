"""POST /api/embed and /api/embeddings: Ollama's APIs for the vectors of texts."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.retrieval.embedding_model import normalize

from ..endpoint import Endpoint
from ..generation.fields import RequestModel
from ..guard.body import read_body
from ..logs.request_record import CLIENT
from ..openai.embeddings import MAX_TEXTS, require_dimensions, shorten
from ..pool.dispatcher import Dispatcher, cancel_on_disconnect
from .api_error import OllamaError, error_body
from .models import find_encoder
from .request import LoadingRequest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class EmbedRequest(LoadingRequest):
    """A request for the vectors of texts, of length 1. A text that is longer than the model reads is cut, unless
    `truncate` is false. Without an input, the model is loaded."""

    input: str | Annotated[list[str], Field(max_length=MAX_TEXTS)] | None = None
    truncate: bool | None = None
    dimensions: Annotated[int, Field(ge=0)] | None = None
    options: dict[str, Any] | None = None


class EmbedReply(RequestModel):
    """The vectors, in the order of the texts; the time in nanoseconds, and the tokens."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class EmbeddingsRequest(LoadingRequest):
    """A request for the vector of one text: Ollama's older API."""

    prompt: str | None = None
    options: dict[str, Any] | None = None


class EmbeddingsReply(RequestModel):
    """The vector, as the model makes it."""

    embedding: list[float]


async def embed(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the vectors of texts."""
    start = time.perf_counter_ns()
    body = await read_body(request, EmbedRequest)
    entry = find_encoder(dispatcher.pool, body.model_name, "embedding")
    require_dimensions(entry, body.dimensions or None)
    dispatcher.pool.keep(entry, body.keep_alive_seconds())
    await dispatcher.pool.encoders.load(entry)
    loaded = time.perf_counter_ns()
    inputs = body.input if isinstance(body.input, list) else [body.input] if body.input else []

    def to_json(vector: "npt.NDArray[np.float32]") -> str:
        return json.dumps(normalize(shorten(vector, body.dimensions or None)).tolist())

    client, truncate = request.scope.get(CLIENT, ""), body.truncate is not False
    work = dispatcher.pool.encoders.embed(entry, inputs, to_json, truncate=truncate, client=client)
    vectors, tokens = await cancel_on_disconnect(request, work)
    dispatcher.metrics.tokens.labels(entry.name, "prompt").inc(tokens)
    facts = {
        "model": body.model_name or entry.name,
        "total_duration": time.perf_counter_ns() - start,
        "load_duration": loaded - start,
        "prompt_eval_count": tokens,
    }
    content = f'{json.dumps(facts)[:-1]}, "embeddings": [{", ".join(vectors)}]}}'
    return Response(content, media_type="application/json")


async def embeddings(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the vector of one text."""
    body = await read_body(request, EmbeddingsRequest)
    entry = find_encoder(dispatcher.pool, body.model_name, "embedding")
    dispatcher.pool.keep(entry, body.keep_alive_seconds())
    inputs = [body.prompt] if body.prompt else []
    client = request.scope.get(CLIENT, "")
    work = dispatcher.pool.encoders.embed(entry, inputs, lambda vector: vector.tolist(), truncate=True, client=client)
    vectors, tokens = await cancel_on_disconnect(request, work)
    dispatcher.metrics.tokens.labels(entry.name, "prompt").inc(tokens)
    return JSONResponse({"embedding": vectors[0] if vectors else []})


ENDPOINTS = (
    Endpoint("POST", "/api/embed", embed, EmbedRequest, EmbedReply, error_format=error_body, error_model=OllamaError),
    Endpoint(
        "POST",
        "/api/embeddings",
        embeddings,
        EmbeddingsRequest,
        EmbeddingsReply,
        error_format=error_body,
        error_model=OllamaError,
    ),
)
