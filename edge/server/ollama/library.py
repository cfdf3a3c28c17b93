"""Ollama's endpoints that download, create and remove models. The models of this server are the folders that it was
started with, so they are rejected; to pull a model that is there succeeds, as in Ollama."""

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.fields import RequestModel
from ..guard.body import read_body
from ..pool.dispatcher import Dispatcher
from .api_error import OllamaError, error_body
from .models import find_model
from .reply import NDJSON
from .request import ModelRequest

_CURE = "convert a checkpoint with `edge convert`, and start `edge serve` with its folder"


class PullRequest(ModelRequest):
    """A request for a model of a registry."""

    stream: bool | None = None


class PullReply(RequestModel):
    """The state of a download."""

    status: str


async def pull(dispatcher: Dispatcher, request: Request) -> Response:
    """Return success for a model that the server has. Raises ApiError for any other: nothing is downloaded."""
    body = await read_body(request, PullRequest)
    try:
        find_model(dispatcher.pool, body.model_name)
    except ApiError as exc:
        message = f"model '{body.model_name}' not found, and this server downloads none; {_CURE}"
        raise ApiError(404, message, param="model", code="model_not_found") from exc
    done = PullReply(status="success").model_dump()
    if body.stream is False:
        return JSONResponse(done)
    return Response(json.dumps(done) + "\n", media_type=NDJSON)


async def reject(dispatcher: Dispatcher, request: Request) -> Response:
    """Raise ApiError: the models of the server do not change while it runs."""
    message = f"{request.url.path} is not supported: the models of this server are folders; {_CURE}"
    raise ApiError(501, message, code="unsupported_operation")


def _rejected(method: str, path: str) -> Endpoint:
    return Endpoint(method, path, reject, documented=False, error_format=error_body)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/api/pull",
        pull,
        PullRequest,
        PullReply,
        stream=True,
        stream_type=NDJSON,
        error_format=error_body,
        error_model=OllamaError,
    ),
    _rejected("POST", "/api/push"),
    _rejected("POST", "/api/create"),
    _rejected("POST", "/api/copy"),
    _rejected("DELETE", "/api/delete"),
    _rejected("POST", "/api/blobs/{digest}"),
)
