"""One spelling of each path: clients are configured with base URLs of many kinds, and proxies pass on what they get."""

import re
from collections.abc import Iterable

from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

_VERSION = "/v1"


class PathNormalizer:
    """ASGI middleware, the outermost one: it rewrites a request's path to the spelling of `paths`, the endpoints'.

    `root_path`, below which a proxy serves the server, is removed, if the proxy has not removed it already. Repeated
    slashes, a slash at the end and a second /v1 are removed, and a missing /v1 is added.
    """

    def __init__(self, app: ASGIApp, *, paths: Iterable[str], root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path
        self._patterns = [compile_path(path)[0] for path in paths]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on under its normalized path."""
        if scope["type"] == "http":
            # Not in a copy: a connection reads the request's record from the scope that it made.
            scope.update(path=self.normalize(scope["path"]), root_path="")
        await self._app(scope, receive, send)

    def normalize(self, path: str) -> str:
        """Return the path as the endpoints spell it; an unknown one without needless slashes."""
        path = re.sub("/{2,}", "/", path)
        if self._root_path and f"{path}/".startswith(f"{self._root_path}/"):
            path = path[len(self._root_path) :]
        path = path.rstrip("/") or "/"
        while path.startswith(f"{_VERSION}{_VERSION}/"):
            path = path.removeprefix(_VERSION)
        return path if self._is_known(path) or not self._is_known(_VERSION + path) else _VERSION + path

    def _is_known(self, path: str) -> bool:
        return any(pattern.match(path) for pattern in self._patterns)
