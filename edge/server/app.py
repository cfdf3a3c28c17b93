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

from runtime.speech.audio import MAX_BYTES
from runtime.toolbox import Toolbox

from . import status
from .anthropic import messages
from .audio import speech, transcriptions
from .batch.batches import file_and_batch_endpoints
from .endpoint import Endpoint
from .error_formats import ErrorFormats
from .errors import ApiError
from .guard.body_limits import BodyLimits
from .guard.guard import Guard
from .guard.host_names import HostNames
from .guard.origins import Origins
from .guard.path_normalizer import PathNormalizer
from .ollama import endpoints as ollama
from .openai import chat_completions, completions, embeddings, rerank, tokenization
from .openapi import openapi_document
from .page import chat as page
from .page import static_files
from .pool.dispatcher import Dispatcher
from .pool.model_pool import ModelPool
from .responses import compaction, conversations, create, stored
from .responses.store.opening import open_store
from .settings import ServerSettings
from .transport.access_log import REQUEST_ID, AccessLog, RequestLog

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
    *transcriptions.ENDPOINTS,
    speech.ENDPOINT,
    *tokenization.ENDPOINTS,
    *messages.ENDPOINTS,
    *ollama.ENDPOINTS,
    *status.ENDPOINTS,
    *static_files.ENDPOINTS,
)
OPENAPI_PATH = "/openapi.json"
_FORM_BYTES = 2**18  # around a recording


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
        path = request.scope["path"]
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
    app = Starlette(
        routes=[*(endpoint.route(dispatcher) for endpoint in offered), Route(OPENAPI_PATH, openapi)],
        middleware=_middleware(settings, paths, formats, log, _body_limits(pool, offered)),
        exception_handlers={HTTPException: reject},
        lifespan=lifespan,
    )
    app.state.dispatcher = dispatcher
    app.state.request_log = log
    app.state.response_store = open_store(settings.store, settings.store_count, settings.store_bytes)
    app.state.toolbox = toolbox
    return app


def _body_limits(pool: ModelPool, endpoints: Sequence[Endpoint]) -> BodyLimits:
    limits = {endpoint.path: pool.chat_bytes for endpoint in endpoints if endpoint.pictures}
    if pool.speech.entries:
        limits |= {endpoint.path: MAX_BYTES + _FORM_BYTES for endpoint in endpoints if endpoint.audio}
    return BodyLimits(pool.limits.body_bytes, limits)


def _middleware(
    settings: ServerSettings, paths: Sequence[str], formats: ErrorFormats, log: RequestLog, bodies: BodyLimits
) -> list[Middleware]:
    """Return what a request passes before its endpoint, the outermost first."""
    origins = Origins(settings.origins)
    cors = Middleware(
        CORSMiddleware,
        allow_origin_regex=origins.pattern,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        allow_private_network=True,
        expose_headers=[REQUEST_ID, "Retry-After"],
    )
    return [
        Middleware(PathNormalizer, paths=paths, root_path=settings.root_path),
        Middleware(AccessLog, log=log, error_formats=formats),
        *([cors] if origins else []),
        Middleware(
            Guard,
            hosts=HostNames(settings.host, settings.hosts),
            origins=origins,
            keys=settings.keys,
            bodies=bodies,
            error_formats=formats,
        ),
    ]
