"""A bound on the work of compiling a grammar, counted in steps, so that it is the same on every machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..errors import RequestError

STEPS = 50_000  # half a second, or less

_left: ContextVar[list[int] | None] = ContextVar("left", default=None)


@contextmanager
def budget(steps: int) -> Iterator[None]:
    """Bound what is done inside. Raises RequestError where it takes more than so many steps."""
    token = _left.set([steps])
    try:
        yield
    finally:
        _left.reset(token)


def spend(steps: int) -> None:
    """Count steps. Raises RequestError where none are left."""
    left = _left.get()
    if left is not None and steps:
        left[0] -= steps
        if left[0] < 0:
            raise RequestError("the grammar is too large", hint="simplify it: fewer alternatives, shorter counts")
