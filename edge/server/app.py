"""The ASGI application: the table of its endpoints, and the checks in front of them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runtime.toolbox import Toolbox

from . import status
from .access_log import REQUEST_ID, AccessLog, RequestLog
from .anthropic import messages
from .batch.batches import file_and_batch_endpoints
from .endpoint import Endpoint
from .error_formats import ErrorFormats
from .errors import ApiError
from .guard import Guard
from .host_names import HostNames
from .ollama import endpoints as ollama
from .openai import chat_completions, completions, embeddings, rerank, tokenization
from .openapi import openapi_document
from .origins import Origins
from .page import chat as page
from .page import static_files
from .path_normalizer import PathNormalizer
from .paths import route_path
from .pool.dispatcher import Dispatcher
from .pool.model_pool import ModelPool
from .responses import compaction, conversations, create, stored
from .responses.store import open_store
from .settings import ServerSettings

# The routes, the OpenAPI document and the kiosk's paths are made from this table: a new endpoint is a line of it.
ENDPOINTS = (
    chat_completions.ENDPOINT,
    completions.ENDPOINT,
    create.ENDPOINT,
    *compaction.ENDPOINTS,
    *stored.ENDPOINTS,
    *conversations.ENDPOINTS,
    embeddings.ENDPOINT,
    *rerank.ENDPOINTS,
    *tokenization.ENDPOINTS,
    *messages.ENDPOINTS,
    *ollama.ENDPOINTS,
    *status.ENDPOINTS,
    *static_files.ENDPOINTS,
)
OPENAPI_PATH = "/openapi.json"


def create_app(
    pool: ModelPool, settings: ServerSettings = ServerSettings(), *, endpoints: Sequence[Endpoint] = ENDPOINTS
) -> Starlette:
    """Return the ASGI application. `app.state.dispatcher.stop()` ends all replies; `app.state.request_log` logs
    requests that do not reach the application; `app.state.toolbox` has the page's tools, for the caller to open."""
    kiosk = settings.kiosk
    dispatcher = Dispatcher(pool)
    toolbox = Toolbox(settings.tools)
    every = (*endpoints, *file_and_batch_endpoints(dispatcher, endpoints), *page.endpoints(toolbox, kiosk))
    offered = [endpoint for endpoint in every if endpoint.on_kiosk or not kiosk]
    document = openapi_document(offered, bool(settings.keys), settings.root_path)

    async def openapi(request: Request) -> Response:
        return JSONResponse(document)

    async def reject(request: Request, exc: Exception) -> Response:
        error = exc if isinstance(exc, HTTPException) else HTTPException(500)
        path = route_path(request.scope)
        found = ApiError(error.status_code, f"{request.method} {path}: {error.detail}")
        return found.response(formats.get(path))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        pool.close()
        app.state.response_store.close()

    formats = ErrorFormats(offered)
    paths = [*(endpoint.path for endpoint in offered), OPENAPI_PATH]
    log = RequestLog(dispatcher.metrics, paths)
    access_log = Middleware(AccessLog, log=log, error_formats=formats)
    origins = Origins(settings.origins)
    cors = Middleware(
        CORSMiddleware,
        allow_origin_regex=origins.pattern,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        allow_private_network=True,
        expose_headers=[REQUEST_ID, "Retry-After"],
    )
    guard = Middleware(
        Guard,
        hosts=HostNames(settings.host, settings.hosts),
        origins=origins,
        keys=settings.keys,
        body=pool.limits.body_bytes,
        error_formats=formats,
    )
    app = Starlette(
        routes=[*(endpoint.route(dispatcher) for endpoint in offered), Route(OPENAPI_PATH, openapi)],
        middleware=[
            Middleware(PathNormalizer, paths=paths, root_path=settings.root_path),
            access_log,
            *([cors] if origins else []),
            guard,
        ],
        exception_handlers={HTTPException: reject},
        lifespan=lifespan,
    )
    app.state.dispatcher = dispatcher
    app.state.request_log = log
    app.state.response_store = open_store(settings.store, settings.store_count, settings.store_bytes)
    app.state.toolbox = toolbox
    return app
