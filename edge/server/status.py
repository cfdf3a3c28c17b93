"""The server's models, health, readiness and metrics."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.version import VERSION

from .endpoint import Endpoint
from .errors import ApiError, server_stopping
from .pool.dispatcher import Dispatcher
from .pool.metrics import CONTENT_TYPE
from .pool.model_pool import AnyAuxiliary, reads_pictures
from .pool.pool_entry import PoolEntry, State


class ModelEntry(BaseModel):
    """A model of the server, in the fields of OpenAI's API and of Anthropic's, which a client picks by itself.
    `max_model_len` is the context length in tokens, under vLLM's name; so is `parent`, the model whose adapters this
    one has, or whose alias it is."""

    id: str
    object: Literal["model"] = "model"
    type: Literal["model"] = "model"
    display_name: str
    lifecycle: Literal["active"] = "active"
    created: int
    created_at: datetime
    owned_by: str
    max_model_len: int
    max_input_tokens: int
    loaded: bool
    state: State
    parent: str | None = None
    input_modalities: list[str] = ["text"]


class ModelList(BaseModel):
    """All models of the server, on one page."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]
    has_more: Literal[False] = False
    first_id: str
    last_id: str


class Health(BaseModel):
    """The response of /health and /ready. `models` is "loading" while a model is being loaded, else "loaded" if one is;
    one that is "unloaded" is loaded at its next request."""

    status: Literal["ok"] = "ok"
    models: State


async def list_models(dispatcher: Dispatcher, request: Request) -> Response:
    """Return every model, loaded or not, and every alias."""
    pool = dispatcher.pool
    every: dict[str, PoolEntry | AnyAuxiliary] = {**pool.entries, **pool.auxiliary}
    entries = [_model_entry(entry) for entry in every.values()]
    entries += [_alias_entry(alias, every[name]) for alias, name in pool.names.aliases.items()]
    models = ModelList(data=entries, first_id=entries[0].id, last_id=entries[-1].id)
    return JSONResponse(models.model_dump(mode="json"))


async def get_model(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the model named in the path. Raises ApiError (404)."""
    entry = dispatcher.pool.find_any(request.path_params["name"])
    return JSONResponse(_model_entry(entry).model_dump(mode="json"))


def _model_entry(entry: PoolEntry | AnyAuxiliary) -> ModelEntry:
    context = entry.source.manifest.context_length
    return ModelEntry(
        id=entry.name,
        display_name=entry.name,
        created=entry.created,
        created_at=datetime.fromtimestamp(entry.created, UTC),
        owned_by="local",
        max_model_len=context,
        max_input_tokens=context,
        loaded=entry.loaded,
        state=entry.state,
        parent=entry.parent,
        input_modalities=["text", "image"] if reads_pictures(entry.source) else ["text"],
    )


def _alias_entry(alias: str, entry: PoolEntry | AnyAuxiliary) -> ModelEntry:
    return _model_entry(entry).model_copy(update={"id": alias, "display_name": alias, "parent": entry.name})


class Version(BaseModel):
    """The response of /version, as vLLM has it. Our own client takes a server with it for one that enforces grammars
    and returns log-probabilities."""

    version: str


async def get_version(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the version of this package."""
    return JSONResponse(Version(version=VERSION).model_dump())


async def get_health(dispatcher: Dispatcher, request: Request) -> Response:
    """Return ok: the server runs."""
    return JSONResponse(Health(models=dispatcher.pool.state).model_dump())


async def get_ready(dispatcher: Dispatcher, request: Request) -> Response:
    """Return ok once a model has been loaded, if the engine runs, or if a request would load the model again. Raises
    ApiError (503)."""
    pool = dispatcher.pool
    if pool.stopped:
        raise server_stopping()
    if not pool.entries:  # models that do not chat, which are loaded before the port is open
        return JSONResponse(Health(models="loaded").model_dump())
    models = [entry.model for entry in pool.entries.values() if entry.model]
    if not models and not pool.has_loaded:
        raise ApiError(503, "no model is loaded", code="loading")
    if models and not any(model.backend.responds for model in models):
        raise ApiError(503, "the engine has failed or was stopped", code="engine_failed")
    return JSONResponse(Health(models=pool.state).model_dump())


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
