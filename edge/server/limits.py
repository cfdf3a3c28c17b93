"""What a client may ask of the server at most."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """`running` replies are written at once for each model (one on an NPU), `waiting` more wait behind them. A request
    ends `seconds` after it came, and a tool of the page has `tool_seconds`. `body` and `schema` are bytes; `counts` is
    the largest number that a schema may hold."""

    running: int = 16
    waiting: int = 64
    seconds: float = 600.0
    tool_seconds: float = 60.0
    body: int = 8 * 2**20
    messages: int = 1000
    tools: int = 128
    replies: int = 8
    schema: int = 64 * 2**10
    counts: int = 50_000
