"""Who may ask: the Host that a request names, the page that it comes from, its key, and its size."""

import asyncio
import hmac
import ipaddress
import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.system.allocator import trim_heap

from .body_budget import BodyBudget
from .errors import ApiError
from .json_values import MAX_VALUES
from .page.static_files import STATIC_PATH

BUDGET_SHARE = "edge.share"  # of a request's scope: its Share of what is in flight
PUBLIC_PATHS = (
    "/",
    "/health",
    "/ready",
)  # without a key: the page, which asks for it, and those who watch over the server
SAME_ORIGIN_PATHS = ("/chat",)  # for the server's own page alone, whatever is allowed elsewhere
_LOCAL = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[^\s\[\]@/?#\\:]+))(?::[0-9]{1,5})?")  # RFC 9110, 7.2
_LARGE = 2**20  # bytes of a body
_TRIM = 1.0  # seconds
_ALL_INTERFACES = ("0.0.0.0", "::")


class Guard:
    """Stands before the application.

    A browser may be led to this server by a name that somebody else controls (DNS rebinding), so the Host has to be
    one of ours. A page of another origin could ask without being able to read the answer, so it is turned away unless
    it is among `origins`.
    """

    def __init__(self, app: ASGIApp, *, host: str, key: str, origins: Sequence[str], body: int) -> None:
        self._app = app
        self._anywhere = host in _ALL_INTERFACES
        own = socket.gethostname().lower() if self._anywhere else host.lower()
        self._hosts = {*_LOCAL, own, f"{own}.local"}
        self._key = key.encode()
        self._origins = origins
        self._body = body
        self._trim: asyncio.TimerHandle | None = None
        self._in_flight = BodyBudget(body, MAX_VALUES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope["path"], scope["method"], Headers(scope=scope))
        except ApiError as exc:
            await exc.response()(scope, receive, send)
            return
        share = scope[BUDGET_SHARE] = self._in_flight.share()

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
                self._trim = asyncio.get_running_loop().call_later(_TRIM, self._give_back)
            share.close()

    def _give_back(self) -> None:
        """Return heap pages that large bodies have freed to the system."""
        self._trim = None
        trim_heap()

    def _check(self, path: str, method: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._is_own_host(host):
            raise ApiError(403, f"this server does not go by the name {host[:100]!r}", code="unknown_host")
        origin = headers.get("origin")
        same = origin is not None and _host_of(origin) == host
        allowed = not path.startswith(SAME_ORIGIN_PATHS) and (origin in self._origins or "*" in self._origins)
        if origin is not None and not same and not allowed:
            raise ApiError(403, f"pages of {origin[:100]} may not ask this server", code="unknown_origin")
        if self._key and path not in PUBLIC_PATHS and not path.startswith(STATIC_PATH) and method != "OPTIONS":
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._key):
                raise ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._body:
            raise _too_large(self._body)
        if length.isdecimal():
            self._in_flight.require(int(length))  # what has no room is not read at all

    def _is_own_host(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = (found["address"] or found["name"]).lower()
        if name in self._hosts:
            return True
        return self._anywhere and _is_address(name)  # an address is nobody's name


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
    """Whether only this machine can reach a server that binds `host`."""
    return host in _LOCAL or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit:,} bytes", code="too_large")
