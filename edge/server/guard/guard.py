"""Checks of a request before it is routed: its Host, origin, API key, encoding and size."""

import asyncio
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.system.native_effects import trim_heap

from ..error_formats import ErrorFormats
from ..errors import ApiError
from ..logs.request_record import CLIENT, RECORD, record_error
from .api_keys import ApiKey
from .body_budget import BodyBudget
from .body_limits import BodyLimits
from .host_names import HostNames
from .json_values import MAX_VALUES
from .origins import Origins, is_own
from .paths import PUBLIC_PATHS, SAME_ORIGIN_PATHS, STATIC_PATH

BUDGET_SHARE = "edge.share"  # the key of a request's BudgetShare in its ASGI scope
_LARGE = 2**20  # bytes of a body
_TRIM = 1.0  # seconds


class Guard:
    """ASGI middleware that rejects requests before the application sees them.

    DNS rebinding can lead a browser to this server under a name that somebody else controls, so the Host header must be
    one of `hosts`. A page of another origin could send requests without reading the responses, so it is rejected unless
    it is among `origins`. With `keys`, a client sends one of them as a bearer token or as x-api-key. `error_formats`
    has the format of each path's errors.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: HostNames,
        origins: Origins,
        keys: Sequence[ApiKey],
        bodies: BodyLimits,
        error_formats: ErrorFormats,
    ) -> None:
        self._app = app
        self._error_formats = error_formats
        self._hosts = hosts
        self._origins = origins
        self._keys = keys
        self._bodies = bodies
        self._trim: asyncio.TimerHandle | None = None
        self._budget = BodyBudget(bodies.largest, MAX_VALUES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check an HTTP request and pass it on, counting the bytes of its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, headers = scope["path"], Headers(scope=scope)
        limit = self._bodies.get(path)
        try:
            self._check_names(path, headers)
            self._identify(path, headers, scope)
            self._check_body(headers, limit)
        except ApiError as exc:
            record_error(scope, exc.code)
            await exc.response(self._error_formats.get(path))(scope, receive, send)
            return
        share = scope[BUDGET_SHARE] = self._budget.share()

        async def limited() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            if share.nbytes + size > limit:
                raise _too_large(limit)
            share.add_bytes(size)
            return message

        try:
            await self._app(scope, limited, send)
        finally:
            if share.nbytes > _LARGE and self._trim is None:
                self._trim = asyncio.get_running_loop().call_later(_TRIM, self._trim_heap)
            share.close()

    def _trim_heap(self) -> None:
        """Return heap pages that large bodies have freed to the system."""
        self._trim = None
        trim_heap()

    def _check_names(self, path: str, headers: Headers) -> None:
        """Raise ApiError (403) for the host of another server or the origin of another page."""
        host = headers.get("host", "")
        if not self._hosts.accept(host):
            message = f"{host[:100]!r} is not a host name of this server; allow it with --allow-host"
            raise ApiError(403, message, code="unknown_host")
        origin = headers.get("origin")
        if origin is None or is_own(origin, host, self._hosts):
            return
        if path.startswith(SAME_ORIGIN_PATHS):
            cause = "is for the server's own page; behind a proxy, name that page's host with --allow-host"
            raise ApiError(403, f"{path} {cause}", code="unknown_origin")
        if not self._origins.accept(origin):
            message = f"pages of {origin[:100]} may not use this server; allow them with --allow-origin"
            raise ApiError(
                403, f"{message}, or the server's own page behind a proxy with --allow-host", code="unknown_origin"
            )

    def _identify(self, path: str, headers: Headers, scope: Scope) -> None:
        """Set the client of a request: the name of its API key where there are several, else its address. Raises
        ApiError (401) without a valid key."""
        address = scope.get("client")
        scope[CLIENT] = address[0] if address else ""
        if not self._keys or path in PUBLIC_PATHS or path.startswith(STATIC_PATH) or scope["method"] == "OPTIONS":
            return
        kind, _, token = headers.get("authorization", "").partition(" ")
        given = [token.strip().encode()] if kind.lower() == "bearer" else []
        given.append(headers.get("x-api-key", "").strip().encode())
        # Every key is compared, so that the time does not depend on which one matches.
        found = [key for key in self._keys for one in given if hmac.compare_digest(one, key.secret.encode())]
        if not found:
            raise ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
        if len(self._keys) > 1:
            scope[CLIENT] = f"key {found[0].name}"
            if RECORD in scope:
                scope[RECORD].key = found[0].name

    def _check_body(self, headers: Headers, limit: int) -> None:
        """Raise ApiError for a body that is compressed (415), too large (413), or too large for now (503)."""
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            message = f"the body is compressed ({encoding[:40]}); send it as it is, without Content-Encoding"
            raise ApiError(415, message, code="unsupported_encoding")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            raise _too_large(limit)
        if length.isdecimal():
            self._budget.require(int(length))  # before any of the body is read


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit:,} bytes", code="too_large")
