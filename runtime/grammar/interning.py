"""Objects that are equal only if they are one: made once for equal arguments, for as long as somebody has them."""

from collections.abc import Hashable
from itertools import count
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from .budget import spend

T = TypeVar("T", bound="Interned")
_made: "WeakValueDictionary[Hashable, Interned]" = WeakValueDictionary()
_numbers = count()


class Interned:
    """The base of what `intern` makes. `number` is an order of them, by age."""

    __slots__ = ("__weakref__", "number")

    def __init__(self) -> None:
        self.number = next(_numbers)


def intern(kind: type[T], *args: Any) -> T:
    """Return the object of this kind with these arguments, which are hashable."""
    found = _made.get((kind, args))
    if found is None:
        spend(1)
        found = _made.setdefault((kind, args), kind(*args))
    return found  # type: ignore[return-value]
