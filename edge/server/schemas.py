"""How large a client's JSON schema may be. It is a program that the client writes and the engine runs."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from re import _constants, _parser  # type: ignore[attr-defined]
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
    if any(isinstance(value, int) and abs(value) > limits.states for _, value in _walk(schema)):
        raise ApiError(400, f"a schema counts beyond {limits.states:,}", param=param, code="schema_too_large")


def check_held(schema: Mapping[str, Any], limits: Limits, param: str) -> None:
    """As `check_size`, for a schema to which the reply is held."""
    check_size(schema, limits, param)
    try:
        states = _states(JsonSchema.of(schema).pattern())
    except RequestError as exc:
        raise ApiError(400, f"{exc}; {exc.hint}", param=param, code="invalid_value") from exc
    if states > limits.states:
        raise ApiError(
            400, f"a schema has {states:,} states; {limits.states:,} may be held", param=param, code="schema_too_large"
        )


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Everything within, and how deep it lies; without recursion, which a client could exhaust."""
    todo = [(0, value)]
    while todo:
        depth, item = todo.pop()
        yield depth, item
        inner = item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ()
        todo += [(depth + 1, part) for part in inner]


@lru_cache(maxsize=256)
def _states(pattern: str) -> int:
    """About how many states an automaton of the pattern has: a counted repeat is written out."""

    def size(parsed: Any) -> int:
        total = 0
        for op, value in parsed:
            if op in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
                low, high, inner = value
                total += size(inner) * (low + 1 if high is _constants.MAXREPEAT else max(high, 1))
            elif op is _constants.SUBPATTERN:
                total += size(value[-1])
            elif op is _constants.BRANCH:
                total += sum(map(size, value[1]))
            elif op in (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN):
                total += 1
            elif op is not _constants.AT:
                raise RequestError("a pattern looks around itself, which cannot be held", hint="simplify the pattern")
        return total

    try:
        return size(_parser.parse(pattern))
    except (re.error, RecursionError, OverflowError) as exc:
        raise RequestError(f"a pattern cannot be read: {exc}", hint="simplify it") from exc
