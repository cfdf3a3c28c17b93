"""A JSON parser for input from outside, as RFC 8259 defines it.

Python's own accepts NaN and Infinity, turns 1e999 into infinity, and fails with RecursionError on deep nesting.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from .text import replace_json_surrogates

MAX_DEPTH = 200  # objects and lists within one another: what walks over the value afterwards may be recursive
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep"


def parse(text: str | bytes, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Return the value of a JSON text, without lone surrogates. Bytes are UTF-8, -16 or -32, as for json.loads; `pairs`
    builds each object from its members.

    Raises ValueError, and nothing else, for text that is not JSON, a number beyond a float, or nesting too deep.
    """
    if isinstance(text, bytes):
        encoding = json.detect_encoding(text)
        try:
            text = text.decode(encoding, "surrogatepass")
        except UnicodeDecodeError as exc:  # which holds, and spells, all of the text
            raise ValueError(f"the byte at {exc.start:,} is not {encoding.upper().removesuffix('-SIG')}") from None
    try:
        value = json.loads(
            replace_json_surrogates(text), parse_constant=_reject_constant, parse_float=_finite, object_pairs_hook=pairs
        )
    except RecursionError as exc:
        raise ValueError(_TOO_DEEP) from exc
    return require_shallow(value)


def require_shallow(value: Any) -> Any:
    """Return the value. Raises ValueError if it is nested more than DEPTH deep."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise ValueError(_TOO_DEEP)


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:40]} is out of range")
    return value
