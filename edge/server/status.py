"""The server's models, health, readiness and metrics."""

from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.version import VERSION

from .endpoint import Endpoint
from .errors import ApiError, server_stopping
from .pool.dispatcher import Dispatcher
from .pool.metrics import CONTENT_TYPE
from .pool.model_pool import PoolEntry


class ModelEntry(BaseModel):
    """A model of the server. `max_model_len` is the context length in tokens, under vLLM's name; so is `parent`, the
    model whose adapters this one has."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    max_model_len: int
    loaded: bool
    parent: str | None = None


class ModelList(BaseModel):
    """All models of the server."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


class Health(BaseModel):
    """The response of /health and /ready."""

    status: Literal["ok"] = "ok"


async def list_models(dispatcher: Dispatcher, request: Request) -> Response:
    """Return every model, loaded or not."""
    entries = [_model_entry(entry) for entry in dispatcher.pool.entries.values()]
    return JSONResponse(ModelList(data=entries).model_dump())


async def get_model(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the model named in the path. Raises ApiError (404)."""
    return JSONResponse(_model_entry(dispatcher.pool.find(request.path_params["name"])).model_dump())


def _model_entry(entry: PoolEntry) -> ModelEntry:
    return ModelEntry(
        id=entry.name,
        created=entry.created,
        owned_by="local",
        max_model_len=entry.source.manifest.context_length,
        loaded=entry.model is not None,
        parent=entry.parent,
    )


class Version(BaseModel):
    """The response of /version, as vLLM has it. Our own client takes a server with it for one that enforces grammars
    and returns log-probabilities."""

    version: str


async def get_version(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the version of this package."""
    return JSONResponse(Version(version=VERSION).model_dump())


async def get_health(dispatcher: Dispatcher, request: Request) -> Response:
    """Return ok: the server runs."""
    return JSONResponse(Health().model_dump())


async def get_ready(dispatcher: Dispatcher, request: Request) -> Response:
    """Return ok if a request would be answered now, without waiting for a model to load. Raises ApiError (503)."""
    if dispatcher.pool.stopped:
        raise server_stopping()
    models = [entry.model for entry in dispatcher.pool.entries.values() if entry.model]
    if not models:
        raise ApiError(503, "no model is loaded", code="loading")
    if not any(model.backend.responds for model in models):
        raise ApiError(503, "the engine has failed or was stopped", code="engine_failed")
    return JSONResponse(Health().model_dump())


async def get_metrics(dispatcher: Dispatcher, request: Request) -> Response:
    """Return Prometheus metrics."""
    return Response(await dispatcher.metrics.render(), media_type=CONTENT_TYPE)


ENDPOINTS = (
    Endpoint("GET", "/v1/models", list_models, None, ModelList),
    Endpoint("GET", "/v1/models/{name:path}", get_model, None, ModelEntry, documented=False),
    Endpoint("GET", "/version", get_version, None, Version),
    Endpoint("GET", "/health", get_health, None, Health, on_kiosk=True),
    Endpoint("GET", "/ready", get_ready, None, Health, on_kiosk=True),
    Endpoint("GET", "/metrics", get_metrics, on_kiosk=True),
)
