"""The server's limits on its clients."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on requests, per model, per request or per connection.

    For each model, `running` replies are generated at once (one on an NPU), and `waiting` more requests wait in the
    queue. A request may ask for `replies_per_request`, of which `replies_at_once` are generated at once. A request
    ends `request_seconds` after its arrival; a tool of the page has `tool_seconds`. A body has
    `body_bytes`, that of a chat with a model that reads pictures `picture_body_bytes`. `schema_bytes` bounds a JSON
    schema and any other grammar. A client has `header_seconds` to send a request's headers,
    `body_seconds` to send its body, and as long to read the response.

    The headers of a streamed response are sent `grace_seconds` after its request has been read, at the latest; an error
    before that has an HTTP status of its own. A stream without events sends a heartbeat every `heartbeat_seconds`.
    """

    running: int = 16
    waiting: int = 64
    request_seconds: float = 600.0
    tool_seconds: float = 60.0
    body_bytes: int = 8 * 2**20
    picture_body_bytes: int = 32 * 2**20
    messages: int = 1000
    tools: int = 128
    replies_per_request: int = 128
    replies_at_once: int = 8
    schema_bytes: int = 64 * 2**10
    connections: int = 512
    header_seconds: float = 10.0
    body_seconds: float = 60.0
    grace_seconds: float = 0.5
    heartbeat_seconds: float = 10.0
