"""Limits on the time, the characters and the list items of a template's rendering. Exceeding one is a SecurityError."""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined
from jinja2.utils import Namespace

MAX_SECONDS = 5.0
_MAX_TEXT = 1 << 22  # characters of one text, besides those of the messages
_MAX_CHARACTERS = 1 << 27  # of all texts made during the rendering
_MAX_ITEMS = 1 << 21  # of all lists
_MAX_DEPTH = 250  # of nested lists


@dataclass(slots=True)
class RenderBudget:
    """The use of one rendering. Its limits grow with `input_size`, the characters and items of the messages."""

    input_size: int = 0
    deadline: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)
    characters: int = 0
    items: int = 0

    def check_deadline(self) -> None:
        """Raise SecurityError after MAX_SECONDS."""
        if time.monotonic() > self.deadline:
            raise SecurityError(f"it takes more than {MAX_SECONDS:g} seconds")

    def check_length(self, size: int) -> None:
        """Raise SecurityError if a text of `size` characters would be too long."""
        if size > _MAX_TEXT + 4 * self.input_size:
            raise SecurityError("it makes a text that is too long")

    def charge(self, value: Any) -> Any:
        """Return the value after counting its characters or items."""
        self.check_deadline()
        if isinstance(value, str | bytes):
            self.check_length(len(value))
            self.characters += len(value)
            if self.characters > _MAX_CHARACTERS + 64 * self.input_size:
                raise SecurityError("it makes too many long texts")
        elif isinstance(value, list | tuple | dict):
            self._charge_items(len(value))
        return value

    def _charge_items(self, items: int) -> None:
        self.items += items
        if items > _MAX_ITEMS or self.items > _MAX_ITEMS + 64 * self.input_size:
            raise SecurityError("it makes too long a list")

    def check_items(self, size: int) -> None:
        """Raise SecurityError if a list of `size` items would be too long."""
        if size > _MAX_ITEMS:
            raise SecurityError("it makes too long a list")

    def measure(self, value: Any) -> int:
        """Return the least number of characters that the value takes as text. Raises SecurityError if they are too
        many, or if it is nested so deeply that Python's own recursion over it would not be safe."""
        found, rest = 0, [(value, 0)]
        while rest:
            item, depth = rest.pop()
            if isinstance(item, Namespace):
                (item,) = object.__getattribute__(item, "__dict__").values()  # it hides all but its variables
            found += len(item) if isinstance(item, str | bytes) else 4
            if isinstance(item, Mapping):
                rest += ((inner, depth + 1) for pair in item.items() for inner in pair)
            elif isinstance(item, Collection) and not isinstance(item, str | bytes | range | Undefined):
                rest += ((inner, depth + 1) for inner in item)
            self.check_length(found + 4 * len(rest))
            if depth > _MAX_DEPTH:
                raise SecurityError("it nests lists too deep")
        return found


_budget: ContextVar[RenderBudget] = ContextVar("budget")


@contextmanager
def render_budget(variables: Any = ()) -> Iterator[None]:
    """Share one budget between all templates rendered in this block. `variables` are their input."""
    found = RenderBudget()
    found.input_size = _input_size(variables)
    token = _budget.set(found)
    try:
        yield
    finally:
        _budget.reset(token)


def current_budget() -> RenderBudget:
    """Return the budget of the block, or a new one outside of any."""
    return _budget.get(None) or RenderBudget()


def _input_size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_input_size(key) + _input_size(item) for key, item in value.items()) + 1
    if isinstance(value, list | tuple):
        return sum(map(_input_size, value)) + 1
    return 1
