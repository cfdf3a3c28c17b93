"""HTTP connections with limits: their number, the time for a request to arrive, the time for a response to be read.

uvicorn waits forever for the rest of a request, and logs thousands of lines a second when the process runs out of file
descriptors. Here the connection of a half-sent request is closed after a while, or at once if others need its place.
"""

import asyncio
import json
import sys
import time
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import h11
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import ApiError
from ..limits import Limits
from ..logs.request_record import RECORD, RequestRecord
from .access_log import REQUEST_ID, RequestLog

BACKLOG = 128
_DESCRIPTORS_PER_CONNECTION = 2  # the rest is for engines, weights, and clients that are being rejected


def http_protocol(limits: Limits, log: RequestLog | None = None) -> Any:
    """Return a protocol factory for uvicorn: HTTP/1.1 under these limits, with at most half the allowed open files.
    `log` logs the requests that do not reach the application."""
    room = min(limits.connections, _descriptors() // _DESCRIPTORS_PER_CONNECTION)
    return partial(_Connection, limits=limits, room=room, log=log)


def _descriptors() -> int:
    if sys.platform == "win32":  # sockets are not file descriptors there
        return 2**16
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(soft, 2**16) if soft != resource.RLIM_INFINITY else 2**16


class _Connection(H11Protocol):
    """An HTTP/1.1 connection that is closed if its client is too slow, or if others need its place."""

    def __init__(self, *args: Any, limits: Limits, room: int, log: RequestLog | None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._limits = limits
        self._room = room
        self._log = log
        self._awaited = ""  # what the client has to send: "headers", "body"; "answer" if it waits for the server
        self.waiting_since = time.monotonic()  # when `_awaited` last changed
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    @property
    def waits_for_client(self) -> bool:
        """Whether the server waits for the client: it is not answering a request."""
        return self._state() != "answer"

    @property
    def idle(self) -> bool:
        """Whether the last request has been answered and no byte of another has arrived."""
        return self._state() == "idle"

    def shutdown(self) -> None:
        """Close the connection, as the server stops. A request that has fully arrived is answered first."""
        if self.waits_for_client and not self.idle:
            self.drop()
        else:
            super().shutdown()

    def connection_made(self, transport: Any) -> None:
        """Accept the connection, or reject it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._room and not self._make_room():
            self._reject(ApiError(503, "there are too many connections", code="busy"))
            return
        self._restart_timer()

    def data_received(self, data: bytes) -> None:
        """Parse what the client has sent."""
        super().data_received(data)
        self._restart_timer()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._restart_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the timer for a full send buffer: a client that does not read in time is disconnected."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._limits.body_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer: the client reads again."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def _state(self) -> str:
        match self.conn.their_state:
            case h11.IDLE:
                begun = self.cycle is None or bool(self.conn.trailing_data[0])
                return "headers" if begun else "idle"  # uvicorn itself times out idle connections
            case h11.SEND_BODY:
                return "body"
        return "answer"

    def _restart_timer(self) -> None:
        """Restart the timer if the connection now waits for something else."""
        awaited = self._state()
        if awaited == self._awaited:
            return
        self._awaited, self.waiting_since = awaited, time.monotonic()
        if self._timer is not None:
            self._timer.cancel()
        seconds = {"headers": self._limits.header_seconds, "body": self._limits.body_seconds}.get(awaited)
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.time_out)

    def time_out(self) -> None:
        """Answer 408 and close the connection: the request did not arrive in time."""
        self._reject(ApiError(408, f"the request's {self._awaited} did not arrive in time", code="timeout"))

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for its client. Returns False if there is none."""
        others = [one for one in self.connections if isinstance(one, _Connection) and one is not self]
        waiting = [one for one in others if one.waits_for_client and not one.transport.is_closing()]
        if not waiting:
            return False
        # A half-sent request is closed before an idle connection.
        min(waiting, key=lambda one: (one.idle, one.waiting_since)).drop()
        return True

    def drop(self) -> None:
        """Close the connection after sending what is already in its buffer."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # the response ends
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 and close the connection: what arrived is not HTTP."""
        self._reject(ApiError(400, "the request is not valid HTTP", code="invalid_http"))

    def _reject(self, error: ApiError) -> None:
        if self.transport.is_closing():
            return
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            record = self._record(error)
            body = json.dumps(error.body()).encode()
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
                (REQUEST_ID, record.id),
            ]
            for event in (
                h11.Response(status_code=error.status, headers=headers, reason=HTTPStatus(error.status).phrase),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.close()

    def _record(self, error: ApiError) -> RequestRecord:
        """Note the error in the record of the request that is being read, or log a request that has none: its headers
        are incomplete."""
        if self.cycle is not None and not self.cycle.response_complete:
            scope: Scope = dict(self.cycle.scope)
            if RECORD in scope:
                record: RequestRecord = scope[RECORD]
                record.status, record.error = error.status, error.code or ""
                return record
        client = self.client[0] if self.client else "-"
        record = RequestRecord(uuid4().hex, client, status=error.status, error=error.code or "", complete=True)
        record.start = self.waiting_since
        if self._log is not None:
            self._log.write(record)
        return record
