"""How large a client's JSON schema may be. It is a program that the client writes and the engine runs."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.errors import RequestError
from runtime.grammar import JsonSchema

from ..errors import ApiError
from ..limits import Limits

_DEPTH = 40
_CHAIN = 100  # references, each within what the one before it refers to


def check_size(schema: Mapping[str, Any], limits: Limits, param: str) -> None:
    """Raises ApiError for a schema that is too large to be looked at."""
    text = json.dumps(schema, ensure_ascii=False)
    if len(text.encode(errors="surrogatepass")) > limits.schema_bytes:
        raise _too_large(f"a schema is larger than {limits.schema_bytes:,} bytes", param)
    if max((depth for depth, _ in _walk(schema)), default=0) > _DEPTH:
        raise _too_large("a schema is nested too deeply", param)
    if any(isinstance(value, int) and abs(value) > limits.schema_integer for _, value in _walk(schema)):
        raise _too_large(f"a schema counts beyond {limits.schema_integer:,}", param)


def check_enforceable(schema: Mapping[str, Any], limits: Limits, param: str) -> None:
    """As `check_size`, for a schema to which the reply is held. What it costs the engine is found out by a trial."""
    check_size(schema, limits, param)
    if _Expansion(schema, limits.schema_values).size > limits.schema_values:
        raise _too_large(f"a schema has more than {limits.schema_values:,} values with its $refs resolved", param)
    try:
        JsonSchema.of(schema)
    except RequestError as exc:
        raise ApiError(400, f"{exc}; {exc.hint}", param=param, code="invalid_value") from exc


class _Expansion:
    """A schema in which each $ref is replaced by what it refers to: `size` values, or more than `most`.

    Each reference is counted once, so that this takes no longer than the schema is. One that refers to itself, or to
    nothing, is left to the check that names it.
    """

    def __init__(self, schema: Mapping[str, Any], most: int) -> None:
        self._schema = schema
        self._most = most
        self._sizes: dict[str, int] = {}
        self._open: list[str] = []
        self.size = self._count({key: value for key, value in schema.items() if key not in ("$defs", "definitions")})

    def _count(self, value: Any) -> int:
        items = [item for _, item in _walk(value)]
        size = len(items)
        for item in items:
            ref = item.get("$ref") if isinstance(item, Mapping) else None
            if isinstance(ref, str) and ref not in self._open and size <= self._most:
                size += self._of(ref)
        return size

    def _of(self, ref: str) -> int:
        if ref not in self._sizes:
            if len(self._open) == _CHAIN:
                return self._most + 1
            self._open.append(ref)
            self._sizes[ref] = self._count(self._target(ref))
            self._open.pop()
        return self._sizes[ref]

    def _target(self, ref: str) -> Any:
        value: Any = self._schema
        for step in ref.removeprefix("#/").split("/"):
            value = value.get(step) if isinstance(value, Mapping) else None
        return value


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Everything within, and how deep it lies; without recursion, which a client could exhaust."""
    todo = [(0, value)]
    while todo:
        depth, item = todo.pop()
        yield depth, item
        inner = item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ()
        todo += [(depth + 1, part) for part in inner]


def _too_large(message: str, param: str) -> ApiError:
    return ApiError(400, message, param=param, code="schema_too_large")
