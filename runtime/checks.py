"""Checks of an application's arguments, so that a mistake is reported where it was made."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from types import UnionType
from typing import Any

from .errors import EdgeError, RequestError
from .text import replace_surrogates


def require(
    name: str, value: object, kind: type[Any] | UnionType, wanted: str, error: type[EdgeError] = RequestError
) -> None:
    """Raise RequestError that names the argument, unless the value is of the type `kind`. `wanted` describes that type
    in words."""
    if not isinstance(value, kind):
        raise error(f"{name} must be {wanted}, not {_describe(value)}", hint=f"pass {wanted}")


def require_all(name: str, values: object, kind: type[Any] | UnionType, wanted: str) -> None:
    """Raise RequestError unless the value is a list or tuple of items of the type `kind`. `wanted` describes the whole
    in words."""
    require(name, values, list | tuple, wanted)
    assert isinstance(values, Sequence)
    for value in values:
        require(f"{name}: each item", value, kind, wanted)


def require_integer(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raise RequestError unless the value is an integer from `least` to `most`."""
    bounds = f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise RequestError(f"{name} must be a whole number, not {_describe(value)}", hint=f"it may be {bounds}")
    if int(value) < least or (most is not None and int(value) > most):
        raise RequestError(f"{name} is {int(value):,}", hint=f"it may be {bounds}")


def require_number(name: str, value: object) -> None:
    """Raise RequestError unless the value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise RequestError(f"{name} must be a number, not {_describe(value)}", hint="pass an int or a float")
    if not isinstance(value, Integral) and not math.isfinite(value):
        raise RequestError(f"{name} is {value}", hint="it must be a finite number")


def require_seconds(name: str, value: object) -> None:
    """Raise RequestError unless the value is a number of seconds above 0, or None."""
    if value is None:
        return
    require_number(name, value)
    if float(value) <= 0:  # type: ignore[arg-type]
        raise RequestError(f"{name} is {value}", hint="it must be above 0 seconds, or None for no limit")


def _describe(value: object) -> str:
    """Describe an argument in Python's words; briefly, since it may be anything."""
    shown = repr(value)
    return f"{type(value).__name__} {shown}" if len(shown) <= 40 else type(value).__name__


def normalize_fields(value: object, whose: str, *fields: str) -> None:
    """Replace lone surrogates in these fields of a frozen value. Raises RequestError for a field that is not text."""
    for name in fields:
        text = getattr(value, name)
        require(f"{whose} {name}", text, str, "text")
        object.__setattr__(value, name, replace_surrogates(text))
