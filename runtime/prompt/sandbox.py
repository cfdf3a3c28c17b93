"""Jinja's sandbox with limits on what a chat template may cost: a template comes with a checkpoint, from anybody.

Jinja keeps a template from Python's internals, not from `'a' * 10**10` or loops within loops. Here each operation that
can make something large is looked at before it is done, what was made is counted, and loops look at a deadline. What
would be too much is a SecurityError.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.runtime import Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_SOURCE = 1 << 20  # characters of a template; GLM-4's have up to 10,000
MAX_SECONDS = 5.0
_MAX_TEXT = 1 << 22  # characters of a text, besides those of the messages
_MAX_CHARACTERS = 1 << 27  # characters of all texts that were made on the way
_MAX_ITEMS = 1 << 21  # of all lists
_MAX_ARGUMENT = 100_000  # the largest argument: a width, a count
_MAX_BITS = 4096  # of an integer
_MAX_DEPTH = 250  # of lists within lists
_LARGE_WIDTH = re.compile(r"\d{5,}")  # in a format
# What takes or gives the items of a list as they are; all others make text of what they are given.
_ITEM_FILTERS = frozenset(
    "attr batch count d default first items last length list map random reject rejectattr reverse select selectattr"
    " slice sum".split()
)
_LOOP_FILTER, _JOIN_FILTER, _SLICE_FILTER, _MEASURE_FILTER = (
    "each of",
    "joined with",
    "cut by",
    "measured",
)  # filters that no template can name


@dataclass(slots=True)
class RenderBudget:
    """What a rendering may still use. `given` are the characters and items of its messages."""

    input_size: int = 0
    deadline: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)
    characters: int = 0
    items: int = 0

    def check_deadline(self) -> None:
        if time.monotonic() > self.deadline:
            raise SecurityError(f"it takes more than {MAX_SECONDS:g} seconds")

    def check_length(self, size: int) -> None:
        """Raises SecurityError where a text of that size would be too long."""
        if size > _MAX_TEXT + 4 * self.input_size:
            raise SecurityError("it makes a text that is too long")

    def charge(self, value: Any) -> Any:
        """The value, counted."""
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
        if size > _MAX_ITEMS:
            raise SecurityError("it makes too long a list")

    def measure(self, value: Any) -> int:
        """Characters that the value has, spelled out, at least. Raises SecurityError where they would be too many, or
        where it is nested so deep that Python's own recursion over it is no longer safe."""
        found, rest = 0, [(value, 0)]
        while rest:
            item, depth = rest.pop()
            if isinstance(item, Namespace):
                item = item._Namespace__attrs
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
    """A context in which templates together use what one rendering may."""
    found = RenderBudget()
    found.input_size = _input_size(variables)
    token = _budget.set(found)
    try:
        yield
    finally:
        _budget.reset(token)


def current_budget() -> RenderBudget:
    return _budget.get(None) or RenderBudget()


def _input_size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_input_size(key) + _input_size(item) for key, item in value.items()) + 1
    if isinstance(value, list | tuple):
        return sum(map(_input_size, value)) + 1
    return 1


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """As transformers sets it up (utils/chat_template_utils.py), with limits."""

    intercepted_binops = frozenset("+ * ** %".split())

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], finalize=_finalize)
        del self.globals["lipsum"]
        for name, function in list(self.filters.items()):
            self.filters[name] = _bounded_filter(name, function)
        self.filters |= {
            "join": _join_filter(self.filters["map"]),
            _LOOP_FILTER: _iterate,
            _JOIN_FILTER: _join,
            _SLICE_FILTER: _slice,
            _MEASURE_FILTER: _measure,
        }
        self.tests.update({name: _bounded_test(test) for name, test in list(self.tests.items())})
        self.concat = _concatenate  # type: ignore[method-assign]

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        self.filters[name] = _bounded_filter(name, function)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_SOURCE:
            raise SecurityError(f"it has {len(source):,} characters, more than {MAX_SOURCE:,}")
        found: nodes.Template = _InsertFilters().visit(super()._parse(source, name, filename))
        return found

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        now = current_budget()
        match operator, left, right:
            case "%", str() | bytes(), _:
                _check_format(now, str(left, "latin-1") if isinstance(left, bytes) else left, right)
            case "**", int(), int():
                if right > _MAX_BITS or abs(left).bit_length() * right > _MAX_BITS:
                    raise SecurityError("it makes too large a number")
            case "*", int(), int():
                if left.bit_length() + right.bit_length() > _MAX_BITS:
                    raise SecurityError("it makes too large a number")
            case "*", str() | bytes(), int():
                now.check_length(len(left) * right)
            case "*", int(), str() | bytes():
                now.check_length(len(right) * left)
            case "*", list() | tuple(), int():
                now.check_items(len(left) * right)
            case "*", int(), list() | tuple():
                now.check_items(len(right) * left)
            case "+", str() | bytes() | list() | tuple(), str() | bytes() | list() | tuple():
                now.check_length(len(left) + len(right))
        return now.charge(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        now = current_budget()
        now.check_deadline()
        if not isinstance(__obj, Macro):
            _measure([*args, *kwargs.values()])
        method = getattr(__obj, "__wrapped__", __obj)  # str.format comes in a wrapper of the sandbox
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str | bytes | int | float) and not isinstance(owner, bool):
            _check_method(now, owner, method.__name__, [*args, *kwargs.values()])
        return now.charge(super().call(__context, __obj, *args, **kwargs))


class _InsertFilters(NodeTransformer):
    """Has loops, joins, slices, comparisons and keys, which Jinja compiles to plain Python, go through filters of
    ours."""

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _filter_node(node.expr, _MEASURE_FILTER)
        for operand in node.ops:
            operand.expr = _filter_node(operand.expr, _MEASURE_FILTER)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = _filter_node(node.key, _MEASURE_FILTER)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filter_node(node.iter, _LOOP_FILTER)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filter_node(nodes.Tuple(node.nodes, "load", lineno=node.lineno), _JOIN_FILTER)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            node.arg = (
                _filter_node(node.arg, _MEASURE_FILTER) if isinstance(node.arg, nodes.Tuple | nodes.Name) else node.arg
            )
            return node
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return _filter_node(node.node, _SLICE_FILTER, [bound or nodes.Const(None) for bound in bounds])


def _filter_node(node: Any, name: str, arguments: Sequence[nodes.Expr] = ()) -> nodes.Filter:
    found = nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)
    environment = node.environment
    for one in (found, *found.find_all(nodes.Node)):
        one.environment = one.environment or environment
        one.lineno = one.lineno or node.lineno
    return found


def _iterate(items: Iterable[Any]) -> Iterator[Any]:
    return _check_each(iter(items))


def _check_each(items: Iterator[Any]) -> Iterator[Any]:
    now = current_budget()
    for item in items:
        now.check_deadline()
        yield item


def _measure(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        current_budget().measure(value)
    return value


def _bounded_test(test: Any) -> Callable[..., Any]:
    @wraps(test)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _measure(args)
        return test(*args, **kwargs)

    return bounded


def _slice(value: Any, start: Any, stop: Any, step: Any) -> Any:
    return current_budget().charge(value[start:stop:step])


def _join(values: Sequence[Any]) -> str:
    return _concatenate(map(_finalize, values))


def _concatenate(texts: Iterable[Any]) -> str:
    """str.join, which stops as soon as it becomes too long."""
    now = current_budget()
    found, size = [], 0
    for text in map(str, texts):
        size += len(text)
        now.check_length(size)
        found.append(text)
    joined: str = now.charge("".join(found))
    return joined


def _finalize(value: Any) -> Any:
    """What is put out, or joined: containers are measured before they are spelled out."""
    now = current_budget()
    now.check_deadline()
    if value is None or isinstance(value, str | int | float | Undefined):
        return value
    now.measure(value)
    return now.charge(str(value))


def _join_filter(pick: Callable[..., Any]) -> Callable[..., str]:
    @pass_context
    def join(context: Any, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
        items = value if attribute is None else pick(context, value, attribute=attribute)
        separator = str(_finalize(d))

        def pieces() -> Iterator[Any]:
            for number, item in enumerate(items):
                if number:
                    yield separator
                yield _finalize(item)

        return _concatenate(pieces())

    return join


def _bounded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    first = 1 if hasattr(function, "jinja_pass_arg") else 0  # before it stands Jinja's context

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        now = current_budget()
        now.check_deadline()
        subject, others = args[first], [*args[first + 1 :], *kwargs.values()]
        if name not in ("d", "default"):
            _check_numbers(others)
        if name not in _ITEM_FILTERS:
            size = now.measure(subject)
            longest = max((len(other) for other in others if isinstance(other, str)), default=0)
            if name == "replace":
                _check_replace(now, str(subject), others)
            elif name == "format":
                _check_format(now, str(subject), others)
            elif name in ("indent", "wordwrap", "tojson", "pprint"):
                widths = [other for other in others if isinstance(other, int)]
                now.check_length(size * (1 + max((longest, *widths)) if name != "wordwrap" else 1 + longest))
        elif name == "sum" and any(isinstance(other, list | tuple) for other in others):
            raise SecurityError("it adds up lists")
        found = function(*args, **kwargs)
        if hasattr(found, "__next__"):
            return _check_each(found)
        return now.charge(found)

    return bounded


def _check_numbers(arguments: Iterable[Any]) -> None:
    if any(isinstance(argument, int | float) and abs(argument) > _MAX_ARGUMENT for argument in arguments):
        raise SecurityError(f"it uses a number beyond {_MAX_ARGUMENT:,} as a width or a count")


def _check_replace(now: RenderBudget, text: str, arguments: Sequence[Any]) -> None:
    if len(arguments) > 1:
        old, new = str(arguments[0]), str(arguments[1])
        now.check_length(len(text) + text.count(old) * len(new))


def _check_format(now: RenderBudget, form: str, arguments: Any) -> None:
    """A format of `%` or `{}`: no field is wide, and all fields together make no long text."""
    values = arguments if isinstance(arguments, list | tuple) else [arguments]
    if _LARGE_WIDTH.search(form):
        raise SecurityError("it formats with too large a width")
    if "*" in form or ":{" in form:
        _check_numbers(values)
    largest = max((now.measure(value) for value in values), default=0)
    now.check_length(len(form) + (form.count("%") + form.count("{")) * (2 * largest + 4096 if values else 0))


def _check_method(now: RenderBudget, owner: Any, name: str, arguments: Sequence[Any]) -> None:
    _check_numbers(arguments)
    if isinstance(owner, bytes):
        owner = owner.decode("latin-1")
    if not isinstance(owner, str):
        return
    if name == "replace":
        _check_replace(now, owner, arguments)
    elif name in ("format", "format_map"):
        _check_format(now, owner, arguments)
    elif name == "join" and arguments and isinstance(arguments[0], list | tuple | str):
        now.check_length(now.measure(arguments[0]) + len(owner) * len(arguments[0]))
    elif name == "join":
        raise SecurityError("it joins what is no list")
    elif name == "expandtabs":
        now.check_length(len(owner) + owner.count("\t") * max((n for n in arguments if isinstance(n, int)), default=8))
    elif name == "translate" and arguments and isinstance(arguments[0], Mapping):
        longest = max((len(new) for new in arguments[0].values() if isinstance(new, str)), default=0)
        now.check_length(len(owner) * max(1, longest))
