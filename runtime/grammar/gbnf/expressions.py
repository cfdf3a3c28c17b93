"""The expressions of which the rules of an EBNF consist, and what can be said of rules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from ...errors import RequestError
from ..budget import spend
from ..regular.charset import Ranges


class Expression:
    """A part of a rule."""

    @property
    def parts(self) -> "tuple[Expression, ...]":
        """The expressions of which it consists."""
        return ()


@dataclass(frozen=True, slots=True)
class Terminal(Expression):
    """This text."""

    text: str


@dataclass(frozen=True, slots=True)
class Class(Expression):
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Name(Expression):
    """What the rule of this name describes."""

    name: str


@dataclass(frozen=True, slots=True)
class Concatenation(Expression):
    """One after another."""

    items: tuple[Expression, ...]

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The expressions of which it consists."""
        return self.items


@dataclass(frozen=True, slots=True)
class Alternation(Expression):
    """Any one of them."""

    options: tuple[Expression, ...]

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The expressions of which it consists."""
        return self.options


@dataclass(frozen=True, slots=True)
class Quantified(Expression):
    """The item from `least` to `most` times; None: without end."""

    item: Expression
    least: int
    most: int | None

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The expressions of which it consists."""
        return (self.item,)


Rules = Mapping[str, Expression]


def fail(what: str, hint: str) -> NoReturn:
    """Raise the error of an EBNF that is not valid."""
    raise RequestError(f"the EBNF is not valid: {what}", hint=hint)


def names(expression: Expression) -> Iterator[str]:
    """Yield the names of the rules to which an expression refers."""
    todo = [expression]
    while todo:
        part = todo.pop()
        if isinstance(part, Name):
            yield part.name
        todo += part.parts


def recursive_rules(rules: Rules) -> list[str]:
    """Return the rules that refer to themselves, directly or by others."""
    uses = {name: set(names(rule)) for name, rule in rules.items()}
    found = []
    for name in rules:
        reached, todo = set[str](), list(uses[name])
        while todo:
            other = todo.pop()
            if other not in reached:
                spend(1)
                reached.add(other)
                todo += uses[other]
        if name in reached:
            found.append(name)
    return found


def refuse_left_recursion(rules: Rules) -> None:
    """Raise RequestError for a rule that can begin with itself."""
    empty = _empty_rules(rules)
    begins = {name: set(_first_names(rule, empty)) for name, rule in rules.items()}
    for name in rules:
        reached, todo = set[str](), list(begins[name])
        while todo:
            other = todo.pop()
            if other not in reached:
                spend(1)
                reached.add(other)
                todo += begins[other]
        if name in reached:
            fail(f"the rule {name} begins with itself", 'write it from the left: list ::= item ("," item)*')


def _empty_rules(rules: Rules) -> set[str]:
    """Return the rules that describe the empty text, among others."""
    empty: set[str] = set()
    before = -1
    while len(empty) != before:
        before = len(empty)
        empty |= {name for name, rule in rules.items() if _may_be_empty(rule, empty)}
    return empty


def _may_be_empty(expression: Expression, empty: set[str]) -> bool:
    match expression:
        case Terminal(text):
            return not text
        case Name(name):
            return name in empty
        case Concatenation(items):
            return all(_may_be_empty(item, empty) for item in items)
        case Alternation(options):
            return any(_may_be_empty(option, empty) for option in options)
        case Quantified(item, least, _):
            return least == 0 or _may_be_empty(item, empty)
    return False


def _first_names(expression: Expression, empty: set[str]) -> Iterator[str]:
    """Yield the names of rules with which an expression can begin."""
    match expression:
        case Name(name):
            yield name
        case Concatenation(items):
            for item in items:
                yield from _first_names(item, empty)
                if not _may_be_empty(item, empty):
                    return
        case Alternation() | Quantified():
            for part in expression.parts:
                yield from _first_names(part, empty)
