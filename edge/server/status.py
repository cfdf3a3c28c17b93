"""What the server has, and how it is: models, health, readiness, metrics."""

from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .errors import ApiError, server_stopping
from .metrics import CONTENT_TYPE
from .pool.dispatcher import Dispatcher
from .pool.model_pool import PoolEntry, responds


class ModelEntry(BaseModel):
    """`max_model_len` is the context in tokens, as vLLM names it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    max_model_len: int
    loaded: bool


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelEntry]


class Health(BaseModel):
    status: Literal["ok"] = "ok"


async def list_models(dispatcher: Dispatcher, request: Request) -> Response:
    entries = [_entry(entry) for entry in dispatcher.pool.entries.values()]
    return JSONResponse(ModelList(data=entries).model_dump())


async def get_model(dispatcher: Dispatcher, request: Request) -> Response:
    return JSONResponse(_entry(dispatcher.pool.find(request.path_params["name"])).model_dump())


def _entry(entry: PoolEntry) -> ModelEntry:
    return ModelEntry(
        id=entry.name,
        created=entry.created,
        owned_by="local",
        max_model_len=entry.folder.manifest.context_length,
        loaded=entry.model is not None,
    )


async def get_health(dispatcher: Dispatcher, request: Request) -> Response:
    """The server answers."""
    return JSONResponse(Health().model_dump())


async def get_ready(dispatcher: Dispatcher, request: Request) -> Response:
    """A request would be served now, and not wait for a model to be loaded."""
    if dispatcher.pool.stopped:
        raise server_stopping()
    models = [entry.model for entry in dispatcher.pool.entries.values() if entry.model]
    if not models:
        raise ApiError(503, "no model is loaded", code="loading")
    if not any(responds(model) for model in models):
        raise ApiError(503, "the engine has died or is stopped", code="engine_failed")
    return JSONResponse(Health().model_dump())


async def get_metrics(dispatcher: Dispatcher, request: Request) -> Response:
    return Response(await dispatcher.metrics.render(), media_type=CONTENT_TYPE)
