"""How large a client's JSON schema may be. It is a program that the client writes and the engine runs."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.errors import RequestError
from runtime.grammar import JsonSchema

from .errors import ApiError
from .limits import Limits

_DEPTH = 40


def check_size(schema: Mapping[str, Any], limits: Limits, param: str) -> None:
    """Raises ApiError for a schema that is too large to be looked at."""
    text = json.dumps(schema, ensure_ascii=False)
    if len(text.encode(errors="surrogatepass")) > limits.schema:
        raise ApiError(400, f"a schema is larger than {limits.schema:,} bytes", param=param, code="schema_too_large")
    if max((depth for depth, _ in _walk(schema)), default=0) > _DEPTH:
        raise ApiError(400, "a schema is nested too deeply", param=param, code="schema_too_large")
    if any(isinstance(value, int) and abs(value) > limits.counts for _, value in _walk(schema)):
        raise ApiError(400, f"a schema counts beyond {limits.counts:,}", param=param, code="schema_too_large")


def check_held(schema: Mapping[str, Any], limits: Limits, param: str) -> None:
    """As `check_size`, for a schema to which the reply is held. What it costs the engine is found out by a trial."""
    check_size(schema, limits, param)
    try:
        JsonSchema.of(schema)
    except RequestError as exc:
        raise ApiError(400, f"{exc}; {exc.hint}", param=param, code="invalid_value") from exc


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Everything within, and how deep it lies; without recursion, which a client could exhaust."""
    todo = [(0, value)]
    while todo:
        depth, item = todo.pop()
        yield depth, item
        inner = item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ()
        todo += [(depth + 1, part) for part in inner]
