"""The access log: a line and a count for every request, answered or rejected, and an id on every response.

The id is the client's own x-request-id, or a new one. The log has no word of what was said.
"""

import re
from collections.abc import Iterable
from uuid import uuid4

from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..error_formats import ErrorFormats
from ..errors import report_error
from ..logs.log import LOG
from ..logs.request_record import RECORD, RequestRecord
from ..pool.metrics import Metrics

REQUEST_ID = "x-request-id"
ANTHROPIC_REQUEST_ID = "request-id"  # for Anthropic's clients, in responses alone
_OTHER = "other"  # the path of all unknown paths, in metrics
_ID = re.compile(rb"[!-~]{1,128}")
_PATH_CHARS = 200  # of a path, in the log


class RequestLog:
    """The log and the counter of requests. `paths` are the endpoints' paths; all others are counted as one."""

    def __init__(self, metrics: Metrics, paths: Iterable[str]) -> None:
        self._metrics = metrics
        self._exact = {path for path in paths if "{" not in path}
        self._patterns = [(compile_path(path)[0], path) for path in paths if "{" in path]

    def write(self, record: RequestRecord) -> None:
        """Log and count a request whose response has ended."""
        self._metrics.requests.labels(self._label(record.path), str(record.status)).inc()
        fields = record.to_json()
        key = f" ({record.key})" if record.key else ""
        line = f"{record.client}{key} {record.method} {record.path} {record.status} {fields['seconds'] * 1e3:.0f} ms"
        if "first_token_seconds" in fields:
            line += f", first token after {fields['first_token_seconds'] * 1e3:.0f} ms"
        if record.error:
            line += f", {record.error}"
        elif not record.complete:
            line += ", client disconnected"
        LOG.info("%s, id %s", line, record.id, extra={"fields": fields})

    def _label(self, path: str) -> str:
        if path in self._exact:
            return path
        return next((label for pattern, label in self._patterns if pattern.match(path)), _OTHER)


class AccessLog:
    """ASGI middleware, the outermost one: it logs every request, adds the id to its response, and turns an unexpected
    exception into a response."""

    def __init__(self, app: ASGIApp, *, log: RequestLog, error_formats: ErrorFormats) -> None:
        self._app = app
        self._log = log
        self._error_formats = error_formats

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an HTTP request on, and log it once its response has ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client, path = scope.get("client"), str(scope["path"])
        record = RequestRecord(_request_id(scope), client[0] if client else "-", scope["method"], path[:_PATH_CHARS])
        scope[RECORD] = record
        headers = [(name.encode(), record.id.encode()) for name in (REQUEST_ID, ANTHROPIC_REQUEST_ID)]
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                record.status = record.status or message["status"]
                message["headers"] = [*message.get("headers", ()), *headers]
            elif not message.get("more_body", False):
                record.complete = record.status != 499
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as exc:  # noqa: BLE001
            error = report_error(exc)
            record.error = error.code or ""
            if not started:
                await error.response(self._error_formats.get(path))(scope, receive, send_with_id)
        finally:
            record.status = record.status or 499
            self._log.write(record)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == REQUEST_ID.encode() and _ID.fullmatch(value):
            return str(value, "ascii")
    return uuid4().hex
