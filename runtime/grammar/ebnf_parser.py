r"""A user's EBNF becomes a tree: the notation of llama.cpp's GBNF and of xgrammar.

`name ::= expression` with literals ("…"), character classes ([…], [^…], .), groups, `|`, and `*`, `+`, `?`, `{m,n}`
after any of them; escapes \n \r \t \\ \" \] \xHH \uHHHH \UHHHHHHHH; comments from # to the end of a line. The reply is
what the rule `root` describes. Rules that do not refer to themselves are regular, and become automata, which engines
compile cheaply.

https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NoReturn

from ..errors import RequestError
from . import tree
from .budget import spend
from .pruning import pruned
from .regular import charset, language
from .regular.charset import Ranges
from .tree import NOTHING, Node, Tree

_TOKEN = re.compile(
    r'\s+|\#[^\n]*|(?P<define>[A-Za-z_][\w-]*\s*::=)|(?P<name>[A-Za-z_][\w-]*)|(?P<literal>"(?:\\.|[^"\\\n])*")'
    r"|(?P<class>\[(?:\\.|[^\]\\])*\])|(?P<count>\{\s*\d+\s*(?:,\s*\d*\s*)?\})|(?P<ahead>\(=)|(?P<sign>[|()*+?.])",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|(.)", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0", "a": "\a", "b": "\b", "e": "\x1b"}
_MOST_REPEATS = 3000
_DEEPEST = 60


def parse_ebnf(text: str) -> Tree:
    """Return the grammar. Raises RequestError for what is not valid or not supported, with the rule it stands in."""
    rules = _Parser(text).parse()
    if "root" not in rules:
        _fail("it has no rule root", "name the rule with which the reply begins root")
    recursive = _recursive(rules)
    _refuse_left_recursion(rules)
    builder = _Builder(rules, recursive)
    made = {name: builder.node(rules[name]) for name in recursive}
    found = pruned(Tree(builder.node(rules["root"]), made))
    if found is None:
        _fail("it describes no text", "give each rule an alternative that does not refer to itself")
    return found


def _fail(what: str, hint: str) -> NoReturn:
    raise RequestError(f"the EBNF is not valid: {what}", hint=hint)


class Expression:
    """A part of a rule."""

    @property
    def parts(self) -> "tuple[Expression, ...]":
        """The expressions inside."""
        return ()


@dataclass(frozen=True, slots=True)
class _Text(Expression):
    text: str


@dataclass(frozen=True, slots=True)
class _Class(Expression):
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class _Name(Expression):
    name: str


@dataclass(frozen=True, slots=True)
class _Sequence(Expression):
    items: tuple[Expression, ...]

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The expressions inside."""
        return self.items


@dataclass(frozen=True, slots=True)
class _Choice(Expression):
    options: tuple[Expression, ...]

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The expressions inside."""
        return self.options


@dataclass(frozen=True, slots=True)
class _Repeat(Expression):
    item: Expression
    least: int
    most: int | None

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The expressions inside."""
        return (self.item,)


Rules = Mapping[str, Expression]


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(self._split(text))
        self._at = 0
        self._rule = ""

    def parse(self) -> dict[str, Expression]:
        rules: dict[str, Expression] = {}
        while self._at < len(self._tokens):
            kind, written = self._take()
            if kind != "define":
                self._fail(f"{written} stands outside of a rule")
            self._rule = written[:-3].rstrip()
            if self._rule in rules:
                self._fail("it is defined twice")
            rules[self._rule] = self._choice(0)
        for name in {name for rule in rules.values() for name in _names(rule)} - rules.keys():
            _fail(f"there is no rule {name}", "define it")
        return rules

    @staticmethod
    def _split(text: str) -> Iterator[tuple[str, str]]:
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                line = text.count("\n", 0, at) + 1
                _fail(f"line {line} has {text[at : at + 20]!r}", "write rules as name ::= expression")
            at = match.end()
            if match.lastgroup:
                yield match.lastgroup, match[0]

    def _fail(self, what: str) -> NoReturn:
        _fail(f"in the rule {self._rule or '(none)'}, {what}", "correct the rule")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def _take(self) -> tuple[str, str]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _choice(self, depth: int) -> Expression:
        if depth > _DEEPEST:
            self._fail("groups are nested too deeply")
        options = [self._sequence(depth)]
        while self._peek() == ("sign", "|"):
            self._take()
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else _Choice(tuple(options))

    def _sequence(self, depth: int) -> Expression:
        items: list[Expression] = []
        while True:
            kind, written = self._peek()
            if kind in ("", "define") or written in ("|", ")"):
                return items[0] if len(items) == 1 else _Sequence(tuple(items))
            item = self._atom(depth)
            while counts := self._quantifier():
                item = _Repeat(item, *counts)
            items.append(item)

    def _atom(self, depth: int) -> Expression:
        kind, written = self._take()
        match kind:
            case "name":
                return _Name(written)
            case "literal":
                return _Text("".join(map(chr, _characters(written[1:-1]))))
            case "class":
                return _Class(self._class(written[1:-1]))
            case "ahead":
                self._fail("look-ahead is not supported")
        if written == ".":
            return _Class(charset.EVERY)
        if written != "(":
            self._fail(f"{written} has nothing before it to repeat")
        found = self._choice(depth + 1)
        if self._peek()[1] != ")":
            self._fail("a ( has no )")
        self._take()
        return found

    def _quantifier(self) -> tuple[int, int | None] | None:
        kind, written = self._peek()
        if kind != "count" and written not in ("*", "+", "?"):
            return None
        self._take()
        if kind == "sign":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[written]
        low, comma, high = written[1:-1].partition(",")
        least = int(low)
        most = (int(high) if high.strip() else None) if comma else least
        if max(least, most or 0) > _MOST_REPEATS or (most is not None and most < least):
            self._fail(f"the count {written} is not between 0 and {_MOST_REPEATS:,}")
        return least, most

    def _class(self, text: str) -> Ranges:
        negated = text.startswith("^")
        members = list(_members(text.removeprefix("^")))
        found: list[tuple[int, int]] = []
        index = 0
        while index < len(members):
            low, _ = members[index]
            if index + 2 < len(members) and members[index + 1] == (ord("-"), False):
                high = members[index + 2][0]
                if high < low:
                    self._fail(f"the class [{text}] has a range that ends before it begins")
                found.append((low, high))
                index += 3
            else:
                found.append((low, low))
                index += 1
        ranges = charset.subtract(charset.normalise(found), ((0xD800, 0xDFFF),))
        return charset.invert(ranges) if negated else ranges


def _members(text: str) -> Iterator[tuple[int, bool]]:
    """Yield the characters of a class, and whether each was written as an escape."""
    for match in _ESCAPE.finditer(text):
        (code,) = _characters(match[0])
        yield code, match[0].startswith("\\")


def _characters(text: str) -> Iterator[int]:
    for match in _ESCAPE.finditer(text):
        code = match[1] or match[2] or match[3]
        if code:
            yield min(int(code, 16), charset.MAX_CODE_POINT)
        else:
            yield ord(_CONTROLS.get(match[4], match[4]) if match[4] else match[5])


def _names(expression: Expression) -> Iterator[str]:
    todo = [expression]
    while todo:
        part = todo.pop()
        if isinstance(part, _Name):
            yield part.name
        todo += part.parts


def _recursive(rules: Rules) -> list[str]:
    """Return the rules that refer to themselves, directly or by others."""
    uses = {name: set(_names(rule)) for name, rule in rules.items()}
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


def _refuse_left_recursion(rules: Rules) -> None:
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
            _fail(f"the rule {name} begins with itself", 'write it from the left: list ::= item ("," item)*')


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
        case _Text(text):
            return not text
        case _Name(name):
            return name in empty
        case _Sequence(items):
            return all(_may_be_empty(item, empty) for item in items)
        case _Choice(options):
            return any(_may_be_empty(option, empty) for option in options)
        case _Repeat(item, least, _):
            return least == 0 or _may_be_empty(item, empty)
    return False


def _first_names(expression: Expression, empty: set[str]) -> Iterator[str]:
    """Yield the names of rules with which an expression can begin."""
    match expression:
        case _Name(name):
            yield name
        case _Sequence(items):
            for item in items:
                yield from _first_names(item, empty)
                if not _may_be_empty(item, empty):
                    return
        case _Choice() | _Repeat():
            for part in expression.parts:
                yield from _first_names(part, empty)


class _Builder:
    """Makes nodes of expressions: automata of those that are regular."""

    def __init__(self, rules: Rules, recursive: list[str]) -> None:
        self._rules = rules
        self._recursive = frozenset(recursive)
        self._languages: dict[str, language.Language] = {}
        self._nodes: dict[str, Node] = {}
        for name in self._in_order():
            if name in self._regular_rules:
                self._languages[name] = self._language(rules[name])
            else:
                self._nodes[name] = self.node(rules[name])

    def node(self, expression: Expression) -> Node:
        if isinstance(expression, _Text):
            return tree.literal(expression.text)
        if self._is_regular(expression):
            return tree.raw(self._language(expression))
        match expression:
            case _Name(name):
                return tree.reference(name) if name in self._recursive else self._nodes[name]
            case _Sequence(items):
                return tree.sequence(*map(self.node, self._joined(items)))
            case _Choice(options):
                return tree.choice(*map(self.node, options))
            case _Repeat(item, least, most):
                return tree.repeated(self.node(item), least, most)
        return NOTHING

    def _in_order(self) -> Iterator[str]:
        """Yield the rules that are needed and not recursive, each after those to which it refers."""
        ordered = set[str]()
        todo = ["root", *self._recursive]
        while todo:
            name = todo[-1]
            before = [other for other in _names(self._rules[name]) if other not in self._recursive | ordered]
            todo += before
            if not before:
                todo.pop()
                if name not in self._recursive | ordered:
                    ordered.add(name)
                    yield name

    def _joined(self, items: tuple[Expression, ...]) -> Iterator[Expression]:
        """Yield the items, with regular ones beside each other as one."""
        for regular, run in groupby(items, self._is_regular):
            found = tuple(run)
            yield from (_Sequence(found),) if regular and len(found) > 1 else found

    @cached_property
    def _regular_rules(self) -> set[str]:
        """The rules that refer to no recursive one."""
        regular = self._rules.keys() - self._recursive
        before = -1
        while len(regular) != before:
            before = len(regular)
            regular = {name for name in regular if all(other in regular for other in _names(self._rules[name]))}
        return regular

    def _is_regular(self, expression: Expression) -> bool:
        return all(name in self._regular_rules for name in _names(expression))

    def _language(self, expression: Expression) -> language.Language:
        match expression:
            case _Text(text):
                return language.word(text)
            case _Class(ranges):
                return language.chars(ranges)
            case _Name(name):
                return self._languages[name]
            case _Sequence(items):
                return language.concat(*map(self._language, items))
            case _Choice(options):
                return language.union(*map(self._language, options))
            case _Repeat(item, least, most):
                return language.repeat(self._language(item), least, most)
        return language.NOTHING
