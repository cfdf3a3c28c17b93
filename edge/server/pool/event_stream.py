"""Replies as a stream of server-sent events, or in another format of lines."""

import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from runtime.messages import Event

from ..errors import ApiError, report_error
from .dispatcher import ReplyStream


class EventEncoder(Protocol):
    """The wire format of an API's stream: its events as text, "" for an event that it leaves out."""

    media_type: str

    def opening(self) -> str:
        """Encode what comes before the first event."""
        ...

    def encode(self, index: int, event: Event) -> str:
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
    before the first event."""

    def __init__(self, replies: ReplyStream, encoder: EventEncoder) -> None:
        super().__init__(self._chunks(encoder), media_type=encoder.media_type, headers={"Cache-Control": "no-cache"})
        self._replies = replies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, as ASGI has it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._replies.close()

    async def _chunks(self, encoder: EventEncoder) -> AsyncIterator[str]:
        """Yield the bodies of the HTTP chunks: one for each batch of events."""
        try:
            yield encoder.opening()
            while batch := await self._replies.next_batch():
                yield "".join([encoder.encode(index, event) for index, event in batch])
            yield encoder.ending()
        except Exception as exc:  # noqa: BLE001
            yield encoder.failure(report_error(exc))


SSE = "text/event-stream"


def sse(data: Any, event: str = "") -> str:
    """Format one server-sent event with JSON data."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"event: {event}\ndata: {text}\n\n" if event else f"data: {text}\n\n"
