"""Replies as a stream of server-sent events, or in another format of lines.

A stream sends its headers while its request is still in the queue, and a heartbeat whenever it has been silent for a
while: proxies and clients cut a connection on which nothing arrives.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..errors import ApiError, report_error
from ..limits import Limits
from ..logs.request_record import record_error


class EventSource(Protocol):
    """The events of replies, as they come."""

    limits: Limits

    async def next_batch(self) -> Sequence[tuple[int, Any]]:
        """Wait for the next events, each with the index of its reply; [] at the end. A call that is cancelled loses no
        event."""
        ...

    def close(self) -> None:
        """End what has not ended."""
        ...


class EventEncoder(Protocol):
    """The wire format of an API's stream: its events as text, "" for an event that it leaves out."""

    media_type: str

    @property
    def heartbeat(self) -> str:
        """Text that clients skip, such as a comment; "" for a format that has none."""
        ...

    def opening(self) -> str:
        """Encode what comes before the first event."""
        ...

    def encode(self, index: int, event: Any) -> str:
        """Encode an event of the reply of that index."""
        ...

    def ending(self) -> str:
        """Encode what comes after the last event."""
        ...

    def failure(self, error: ApiError) -> str:
        """Encode an error that ends the stream."""
        ...


class EventStream(StreamingResponse):
    """A response that encodes replies as they are generated, and then closes them, even if the client disconnects
    before the first event. nginx does not buffer it."""

    def __init__(self, replies: EventSource, encoder: EventEncoder) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(self._chunks(encoder), media_type=encoder.media_type, headers=headers)
        self._replies = replies
        self._scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, as ASGI has it."""
        self._scope = scope
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._replies.close()

    async def before_chunk(self) -> None:
        """Called with each batch of events after it has been encoded, and before it is sent."""

    async def _chunks(self, encoder: EventEncoder) -> AsyncIterator[str]:
        """Yield the bodies of the HTTP chunks: one for each batch of events, and heartbeats."""
        opening = encoder.opening()
        seconds = 0.0  # the first heartbeat follows the headers: some proxies send them with the first byte of a body
        try:
            while True:
                try:
                    async with asyncio.timeout(seconds) as timer:
                        batch = await self._replies.next_batch()
                except TimeoutError:
                    if not timer.expired():
                        raise
                    seconds = self._replies.limits.heartbeat_seconds
                    if encoder.heartbeat:
                        yield encoder.heartbeat
                    continue
                if not batch:
                    break
                text = "".join([encoder.encode(index, event) for index, event in batch])
                await self.before_chunk()
                yield opening + text
                opening, seconds = "", self._replies.limits.heartbeat_seconds
            text = encoder.ending()
            await self.before_chunk()
            yield opening + text
        except Exception as exc:  # noqa: BLE001
            error = report_error(exc)
            record_error(self._scope, error.code)
            text = encoder.failure(error)
            await self.before_chunk()
            yield opening + text


SSE = "text/event-stream"
SSE_COMMENT = ": waiting\n\n"  # a heartbeat


def sse(data: Any, event: str = "") -> str:
    """Format one server-sent event with JSON data."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"event: {event}\ndata: {text}\n\n" if event else f"data: {text}\n\n"
