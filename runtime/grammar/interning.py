"""Objects that are equal only if they are one: made once for equal arguments, for as long as somebody has them."""

from collections.abc import Hashable
from itertools import count
from threading import RLock
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from .budget import spend

T = TypeVar("T", bound="Interned")

# By hashes, not by arguments: a key that refers to other objects would keep them for as long as its own, and of a chain
# a collection would free one link.
_made: "WeakValueDictionary[int, Interned]" = WeakValueDictionary()
_numbers = count()
_lock = RLock()


class Interned:
    """The base of what `intern` makes. `number` is an order of them, by age."""

    __slots__ = ("__weakref__", "arguments", "number")
    arguments: tuple[Hashable, ...]

    def __init__(self) -> None:
        self.number = next(_numbers)


def intern(kind: type[T], *args: Hashable) -> T:
    """Return the object of this kind with these arguments, which are hashable."""
    key = hash((kind, args))
    found = _find(key, kind, args)
    if found is None:
        spend(1)
        with _lock:  # or two threads would make two
            found = _find(key, kind, args)
            if found is None:
                found = kind(*args)
                found.arguments = args
                while key in _made:
                    key += 1
                _made[key] = found
    return found


def _find(key: int, kind: type[T], args: tuple[Any, ...]) -> T | None:
    while (found := _made.get(key)) is not None:
        if type(found) is kind and found.arguments == args:
            return found
        key += 1  # another object with the same hash
    return None
