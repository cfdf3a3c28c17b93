"""Limits on a client's JSON schema, which the engine compiles like a program."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.errors import RequestError
from runtime.grammar.grammar import JsonSchema

from ..errors import ApiError
from ..limits import Limits

_MAX_DEPTH = 40
_MAX_CHAIN = 100  # references, each inside the target of the one before it


def check_size(schema: Mapping[str, Any], limits: Limits, param: str) -> None:
    """Raise ApiError for a schema that is too large to be shown to the model."""
    text = json.dumps(schema, ensure_ascii=False)
    if len(text.encode(errors="surrogatepass")) > limits.schema_bytes:
        raise _too_large(f"a schema is larger than {limits.schema_bytes:,} bytes", param)
    if max((depth for depth, _ in _walk(schema)), default=0) > _MAX_DEPTH:
        raise _too_large("a schema is nested too deeply", param)
    if any(isinstance(value, int) and abs(value) > limits.schema_integer for _, value in _walk(schema)):
        raise _too_large(f"a schema has an integer beyond {limits.schema_integer:,}", param)


def check_enforceable(schema: Mapping[str, Any], limits: Limits, param: str) -> None:
    """Raise ApiError for a schema that is too large to constrain a reply, or unsupported. It is compiled later."""
    check_size(schema, limits, param)
    if _ResolvedSize(schema, limits.schema_values).size > limits.schema_values:
        raise _too_large(f"a schema has more than {limits.schema_values:,} values with its $refs resolved", param)
    try:
        JsonSchema.from_schema(schema)
    except RequestError as exc:
        raise ApiError(400, f"{exc}; {exc.hint}", param=param, code="invalid_value") from exc


class _ResolvedSize:
    """The `size` of a schema in values, with each $ref replaced by its target; more than `limit` if it is too large.

    Each target is counted once, so this takes time linear in the schema. References to themselves, or to nothing, are
    not counted: JsonSchema rejects them by name.
    """

    def __init__(self, schema: Mapping[str, Any], limit: int) -> None:
        self._schema = schema
        self._limit = limit
        self._sizes: dict[str, int] = {}
        self._open: list[str] = []
        self.size = self._count({key: value for key, value in schema.items() if key not in ("$defs", "definitions")})

    def _count(self, value: Any) -> int:
        items = [item for _, item in _walk(value)]
        size = len(items)
        for item in items:
            ref = item.get("$ref") if isinstance(item, Mapping) else None
            if isinstance(ref, str) and ref not in self._open and size <= self._limit:
                size += self._target_size(ref)
        return size

    def _target_size(self, ref: str) -> int:
        if ref not in self._sizes:
            if len(self._open) == _MAX_CHAIN:
                return self._limit + 1
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
    """Yield every value inside, with its depth; without recursion, which a client could exhaust."""
    todo = [(0, value)]
    while todo:
        depth, item = todo.pop()
        yield depth, item
        inner = item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ()
        todo += [(depth + 1, part) for part in inner]


def _too_large(message: str, param: str) -> ApiError:
    return ApiError(400, message, param=param, code="schema_too_large")
