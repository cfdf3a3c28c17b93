"""The application: which path is whose."""

from collections.abc import Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.tools import Tool

from . import status
from .errors import ApiError
from .guard import Guard
from .openai import chat_completions as chat
from .openai import completions, responses
from .openapi import Operation, document
from .page import chat as page
from .page.kiosk import PATHS as kiosk_paths
from .page.kiosk import Kiosk
from .page.static_files import PATH, Site
from .pool.dispatcher import Counter, answering
from .pool.model_pool import Shelf

OPERATIONS = (
    Operation("POST", "/v1/chat/completions", chat.completions, chat.ChatRequest, chat.ChatCompletion, stream=True),
    Operation(
        "POST",
        "/v1/completions",
        completions.completions,
        completions.CompletionRequest,
        completions.Completion,
        stream=True,
    ),
    Operation(
        "POST", "/v1/responses", responses.responses, responses.ResponsesRequest, responses.ResponsesReply, stream=True
    ),
    Operation("GET", "/v1/models", status.models, None, status.ModelList),
    Operation("POST", "/tokenize", completions.tokenize, completions.TokenizeRequest, completions.Tokens),
    Operation("POST", "/detokenize", completions.detokenize, completions.DetokenizeRequest, completions.Detokenized),
    Operation("GET", "/health", status.health, None, status.Health),
    Operation("GET", "/ready", status.ready, None, status.Health),
    Operation("GET", "/metrics", status.metrics, None, None),
)


def application(
    shelf: Shelf,
    *,
    host: str = "127.0.0.1",
    key: str = "",
    origins: Sequence[str] = (),
    tools: Sequence[Tool] = (),
    kiosk: Kiosk | None = None,
) -> Starlette:
    """The server as an ASGI application. `app.state.counter.stop()` ends all replies."""
    counter = Counter(shelf)
    site = Site()
    operations: tuple[Operation, ...] = (
        *OPERATIONS,
        Operation("GET", "/chat", partial(page.facts, tools, kiosk), None, page.PageFacts),
        Operation("POST", "/chat", partial(page.chat, tools, kiosk), page.PageRequest, None, stream=True),
    )
    if kiosk:  # what it refuses on its page could be had from the other paths
        operations = tuple(op for op in operations if op.path in kiosk_paths)
    described = document(operations, bool(key))

    async def openapi(request: Request) -> Response:
        return JSONResponse(described)

    async def refused(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        return ApiError(exc.status_code, f"{request.method} {request.url.path}: {exc.detail}").response()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        yield
        shelf.close()

    routes = [
        Route(op.path, answering(counter, op.path, partial(op.answer, counter)), methods=[op.method])
        for op in operations
    ]
    guard = Middleware(Guard, host=host, key=key, origins=origins, body=shelf.limits.body)
    cors = Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"])
    if not kiosk:
        routes.append(Route(one := "/v1/models/{name:path}", answering(counter, one, partial(status.model, counter))))
    app = Starlette(
        routes=[
            *routes,
            Route("/openapi.json", openapi),
            Route("/", answering(counter, "/", site.index)),
            Route(file := f"{PATH}{{name:path}}", answering(counter, file, site.file)),
        ],
        middleware=[guard, *([cors] if origins else [])],
        exception_handlers={HTTPException: refused},
        lifespan=lifespan,
    )
    app.state.counter = counter
    return app
