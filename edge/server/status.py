"""What the server has, and how it is: models, health, readiness, metrics."""

from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .errors import ApiError, server_stopping
from .metrics import CONTENT_TYPE
from .pool.dispatcher import Dispatcher
from .pool.model_pool import responds


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


async def list_models(counter: Dispatcher, request: Request) -> Response:
    entries = [_entry(book) for book in counter.pool.entries.values()]
    return JSONResponse(ModelList(data=entries).model_dump())


async def get_model(counter: Dispatcher, request: Request) -> Response:
    return JSONResponse(_entry(counter.pool.find(request.path_params["name"])).model_dump())


def _entry(book: Any) -> ModelEntry:
    return ModelEntry(
        id=book.name,
        created=book.since,
        owned_by="local",
        max_model_len=book.folder.manifest.context_length,
        loaded=book.model is not None,
    )


async def get_health(counter: Dispatcher, request: Request) -> Response:
    """The server answers."""
    return JSONResponse(Health().model_dump())


async def get_ready(counter: Dispatcher, request: Request) -> Response:
    """A request would be served now, and not wait for a model to be loaded."""
    if counter.pool.stopped:
        raise server_stopping()
    models = [book.model for book in counter.pool.entries.values() if book.model]
    if not models:
        raise ApiError(503, "no model is loaded", code="loading")
    if not any(responds(model) for model in models):
        raise ApiError(503, "the engine has died or is stopped", code="engine_failed")
    return JSONResponse(Health().model_dump())


async def get_metrics(counter: Dispatcher, request: Request) -> Response:
    return Response(await counter.metrics.render(), media_type=CONTENT_TYPE)
