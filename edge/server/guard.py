"""Checks of a request before it is routed: its Host, origin, API key and size."""

import asyncio
import hmac
import ipaddress
import re
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.system.native_effects import trim_heap

from .body_budget import BodyBudget
from .errors import ApiError, ErrorFormat
from .json_values import MAX_VALUES
from .paths import PUBLIC_PATHS, SAME_ORIGIN_PATHS, STATIC_PATH
from .request_record import record_error
from .settings import ServerSettings

BUDGET_SHARE = "edge.share"  # the key of a request's BudgetShare in its ASGI scope
_LOCAL = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[^\s\[\]@/?#\\:]+))(?::[0-9]{1,5})?")  # RFC 9110, 7.2
_LARGE = 2**20  # bytes of a body
_TRIM = 1.0  # seconds


class Guard:
    """ASGI middleware that rejects requests before the application sees them.

    DNS rebinding can lead a browser to this server under a name that somebody else controls, so the Host header must be
    one of the server's own names. A page of another origin could send requests without reading the responses, so it is
    rejected unless it is among the settings' `origins`. `error_formats` has the formats of errors of paths that have
    one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: ServerSettings,
        body: int,
        error_formats: Mapping[str, ErrorFormat] = {},
    ) -> None:
        self._app = app
        self._error_formats = error_formats
        host = settings.host
        self._all_interfaces = _is_address(host) and ipaddress.ip_address(host).is_unspecified
        own = socket.gethostname().lower() if self._all_interfaces else host.lower()
        self._hosts = {*_LOCAL, own, f"{own}.local"}
        self._keys = [key.secret.encode() for key in settings.keys]
        self._origins = settings.origins
        self._body = body
        self._trim: asyncio.TimerHandle | None = None
        self._budget = BodyBudget(body, MAX_VALUES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check an HTTP request and pass it on, counting the bytes of its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope["path"], scope["method"], Headers(scope=scope))
        except ApiError as exc:
            record_error(scope, exc.code)
            await exc.response(self._error_formats.get(scope["path"]))(scope, receive, send)
            return
        share = scope[BUDGET_SHARE] = self._budget.share()

        async def limited() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            if share.nbytes + size > self._body:
                raise _too_large(self._body)
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

    def _check(self, path: str, method: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._is_own_host(host):
            raise ApiError(403, f"{host[:100]!r} is not a host name of this server", code="unknown_host")
        origin = headers.get("origin")
        same = origin is not None and _host_of(origin) == host
        allowed = not path.startswith(SAME_ORIGIN_PATHS) and (origin in self._origins or "*" in self._origins)
        if origin is not None and not same and not allowed:
            message = f"pages of {origin[:100]} may not use this server; allow them with --allow-origin"
            raise ApiError(403, message, code="unknown_origin")
        if self._keys and path not in PUBLIC_PATHS and not path.startswith(STATIC_PATH) and method != "OPTIONS":
            kind, _, given = headers.get("authorization", "").partition(" ")
            found = [hmac.compare_digest(given.strip().encode(), key) for key in self._keys]
            if kind.lower() != "bearer" or not any(found):
                raise ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._body:
            raise _too_large(self._body)
        if length.isdecimal():
            self._budget.require(int(length))  # before any of the body is read

    def _is_own_host(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = (found["address"] or found["name"]).lower()
        if name in self._hosts:
            return True
        return self._all_interfaces and _is_address(name)  # nobody can rebind an address


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # such as http://[
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """Return whether only this machine can reach a server that binds `host`."""
    return host in _LOCAL or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit:,} bytes", code="too_large")
