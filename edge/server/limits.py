"""What a client may ask of the server at most."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """`running` replies are written at once for each model (one on an NPU), `waiting` more wait behind them. A request
    ends `seconds` after it came, and a tool of the page has `tool_seconds`. `body` and `schema` are bytes;
    `schema_values` counts what a schema has once its references are resolved, `counts` is the largest number in it.

    A client has `header_seconds` for a request's headers, `body_seconds` for its body, and as long to read what is
    written to it."""

    running: int = 16
    waiting: int = 64
    request_seconds: float = 600.0
    tool_seconds: float = 60.0
    body_bytes: int = 8 * 2**20
    messages: int = 1000
    tools: int = 128
    replies_per_request: int = 8
    schema_bytes: int = 64 * 2**10
    schema_values: int = 20_000
    schema_integer: int = 50_000
    connections: int = 512
    header_seconds: float = 10.0
    body_seconds: float = 60.0
