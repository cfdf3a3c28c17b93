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
from .openapi import Endpoint, openapi_document
from .page import chat as page
from .page.kiosk import KIOSK_PATHS as kiosk_paths
from .page.kiosk import Kiosk
from .page.static_files import STATIC_PATH, PageFiles
from .pool.dispatcher import Dispatcher, handle_errors
from .pool.model_pool import ModelPool

ENDPOINTS = (
    Endpoint(
        "POST", "/v1/chat/completions", chat.create_chat_completion, chat.ChatRequest, chat.ChatCompletion, stream=True
    ),
    Endpoint(
        "POST",
        "/v1/completions",
        completions.create_completion,
        completions.CompletionRequest,
        completions.Completion,
        stream=True,
    ),
    Endpoint(
        "POST",
        "/v1/responses",
        responses.create_response,
        responses.ResponsesRequest,
        responses.ResponsesReply,
        stream=True,
    ),
    Endpoint("GET", "/v1/models", status.list_models, None, status.ModelList),
    Endpoint("POST", "/tokenize", completions.tokenize, completions.TokenizeRequest, completions.Tokenized),
    Endpoint("POST", "/detokenize", completions.detokenize, completions.DetokenizeRequest, completions.Detokenized),
    Endpoint("GET", "/health", status.get_health, None, status.Health),
    Endpoint("GET", "/ready", status.get_ready, None, status.Health),
    Endpoint("GET", "/metrics", status.get_metrics, None, None),
)


def create_app(
    pool: ModelPool,
    *,
    host: str = "127.0.0.1",
    api_key: str = "",
    origins: Sequence[str] = (),
    tools: Sequence[Tool] = (),
    kiosk: Kiosk | None = None,
) -> Starlette:
    """The server as an ASGI application. `app.state.dispatcher.stop()` ends all replies."""
    dispatcher = Dispatcher(pool)
    site = PageFiles()
    operations: tuple[Endpoint, ...] = (
        *ENDPOINTS,
        Endpoint("GET", "/chat", partial(page.page_facts, tools, kiosk), None, page.PageFacts),
        Endpoint("POST", "/chat", partial(page.chat, tools, kiosk), page.PageRequest, None, stream=True),
    )
    if kiosk:  # what it refuses on its page could be had from the other paths
        operations = tuple(op for op in operations if op.path in kiosk_paths)
    described = openapi_document(operations, bool(api_key))

    async def openapi(request: Request) -> Response:
        return JSONResponse(described)

    async def refused(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        return ApiError(exc.status_code, f"{request.method} {request.url.path}: {exc.detail}").response()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        yield
        pool.close()

    routes = [
        Route(op.path, handle_errors(dispatcher, op.path, partial(op.handler, dispatcher)), methods=[op.method])
        for op in operations
    ]
    guard = Middleware(Guard, host=host, key=api_key, origins=origins, body=pool.limits.body_bytes)
    cors = Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"])
    if not kiosk:
        routes.append(
            Route(
                one := "/v1/models/{name:path}", handle_errors(dispatcher, one, partial(status.get_model, dispatcher))
            )
        )
    app = Starlette(
        routes=[
            *routes,
            Route("/openapi.json", openapi),
            Route("/", handle_errors(dispatcher, "/", site.index)),
            Route(file := f"{STATIC_PATH}{{name:path}}", handle_errors(dispatcher, file, site.file)),
        ],
        middleware=[guard, *([cors] if origins else [])],
        exception_handlers={HTTPException: refused},
        lifespan=lifespan,
    )
    app.state.dispatcher = dispatcher
    return app
