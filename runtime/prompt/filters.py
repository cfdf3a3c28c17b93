"""Filters and tests of the template sandbox: each looks at its operands before it does what could become large."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any

from jinja2 import pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined

from .budget import RenderBudget, current_budget

_MAX_ARGUMENT = 100_000  # the largest width or count
_LARGE_WIDTH = re.compile(r"\d{5,}")  # in a format
# Filters that take or return the items of a list as they are. All others turn their operand into text.
_ITEM_FILTERS = frozenset(
    "attr batch count d default first items last length list map random reject rejectattr reverse select selectattr"
    " slice sum".split()
)


def iterate(items: Iterable[Any]) -> Iterator[Any]:
    """Iterate for a loop, checking the deadline."""
    return _check_each(iter(items))


def _check_each(items: Iterator[Any]) -> Iterator[Any]:
    budget = current_budget()
    for item in items:
        budget.check_deadline()
        yield item


def measure(value: Any) -> Any:
    """Return an operand after measuring it."""
    if not isinstance(value, str | int | float):
        current_budget().measure(value)
    return value


def bounded_test(test: Any) -> Callable[..., Any]:
    """Return a test of Jinja's that measures its operands first."""

    @wraps(test)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        measure(args)
        return test(*args, **kwargs)

    return bounded


def slice_value(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """Return value[start:stop:step], counted."""
    return current_budget().charge(value[start:stop:step])


def concatenate_values(values: Sequence[Any]) -> str:
    """Return the values as one text: Jinja's `~`."""
    return concatenate(map(finalize, values))


def concatenate(texts: Iterable[Any]) -> str:
    """Join texts, stopping as soon as the result becomes too long."""
    budget = current_budget()
    found, size = [], 0
    for text in map(str, texts):
        size += len(text)
        budget.check_length(size)
        found.append(text)
    joined: str = budget.charge("".join(found))
    return joined


def finalize(value: Any) -> Any:
    """Return a value that is about to be printed or joined; a container becomes text after it is measured."""
    budget = current_budget()
    budget.check_deadline()
    if value is None or isinstance(value, str | int | float | Undefined):
        return value
    budget.measure(value)
    return budget.charge(str(value))


def join_filter(pick: Callable[..., Any]) -> Callable[..., str]:
    """Return the filter `join`; `pick` is the filter `map`, for its argument `attribute`."""

    @pass_context
    def join(context: Any, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
        items = value if attribute is None else pick(context, value, attribute=attribute)
        separator = str(finalize(d))

        def pieces() -> Iterator[Any]:
            for number, item in enumerate(items):
                if number:
                    yield separator
                yield finalize(item)

        return concatenate(pieces())

    return join


def bounded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter of Jinja's that checks its operand and arguments first and counts its result."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0  # position of the operand, after Jinja's context

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        budget = current_budget()
        budget.check_deadline()
        subject, others = args[first], [*args[first + 1 :], *kwargs.values()]
        if name not in ("d", "default"):
            _check_numbers(others)
        if name not in _ITEM_FILTERS:
            size = budget.measure(subject)
            longest = max((len(other) for other in others if isinstance(other, str)), default=0)
            if name == "replace":
                _check_replace(budget, str(subject), others)
            elif name == "format":
                check_format(budget, str(subject), others)
            elif name in ("indent", "wordwrap", "tojson", "pprint"):
                widths = [other for other in others if isinstance(other, int)]
                budget.check_length(size * (1 + max((longest, *widths)) if name != "wordwrap" else 1 + longest))
        elif name == "sum" and any(isinstance(other, list | tuple) for other in others):
            raise SecurityError("it adds up lists")
        found = function(*args, **kwargs)
        if hasattr(found, "__next__"):
            return _check_each(found)
        return budget.charge(found)

    return bounded


def _check_numbers(arguments: Iterable[Any]) -> None:
    if any(isinstance(argument, int | float) and abs(argument) > _MAX_ARGUMENT for argument in arguments):
        raise SecurityError(f"it uses a number beyond {_MAX_ARGUMENT:,} as a width or a count")


def _check_replace(budget: RenderBudget, text: str, arguments: Sequence[Any]) -> None:
    if len(arguments) > 1:
        old, new = str(arguments[0]), str(arguments[1])
        budget.check_length(len(text) + text.count(old) * len(new))


def check_format(budget: RenderBudget, form: str, arguments: Any) -> None:
    """Raise SecurityError if formatting could make too long a text."""
    """A format of `%` or `{}`: no field is wide, and all fields together make no long text."""
    values = arguments if isinstance(arguments, list | tuple) else [arguments]
    if _LARGE_WIDTH.search(form):
        raise SecurityError("it formats with too large a width")
    if "*" in form or ":{" in form:
        _check_numbers(values)
    largest = max((budget.measure(value) for value in values), default=0)
    budget.check_length(len(form) + (form.count("%") + form.count("{")) * (2 * largest + 4096 if values else 0))


def check_method(budget: RenderBudget, owner: Any, name: str, arguments: Sequence[Any]) -> None:
    """Raise SecurityError if a method of a text or number could make too long a text."""
    _check_numbers(arguments)
    if isinstance(owner, bytes):
        owner = owner.decode("latin-1")
    if not isinstance(owner, str):
        return
    if name == "replace":
        _check_replace(budget, owner, arguments)
    elif name in ("format", "format_map"):
        check_format(budget, owner, arguments)
    elif name == "join" and arguments and isinstance(arguments[0], list | tuple | str):
        budget.check_length(budget.measure(arguments[0]) + len(owner) * len(arguments[0]))
    elif name == "join":
        raise SecurityError("it joins what is no list")
    elif name == "expandtabs":
        budget.check_length(
            len(owner) + owner.count("\t") * max((n for n in arguments if isinstance(n, int)), default=8)
        )
    elif name == "translate" and arguments and isinstance(arguments[0], Mapping):
        longest = max((len(new) for new in arguments[0].values() if isinstance(new, str)), default=0)
        budget.check_length(len(owner) * max(1, longest))
