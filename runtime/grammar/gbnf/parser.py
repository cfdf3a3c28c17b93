r"""A user's EBNF becomes a tree: the notation of llama.cpp's GBNF and of xgrammar.

`name ::= expression` with literals ("…"), character classes ([…], [^…], .), groups, `|`, and `*`, `+`, `?`, `{m,n}`
after any of them; escapes \n \r \t \\ \" \] \xHH \uHHHH \UHHHHHHHH; comments from # to the end of a line. The reply is
what the rule `root` describes. Rules that do not refer to themselves are regular, and become automata, which engines
compile cheaply.

https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

import re
from collections.abc import Iterator
from typing import NoReturn

from ..regular import charset
from ..regular.charset import Ranges
from .expressions import Alternation, Class, Concatenation, Expression, Name, Quantified, Terminal, fail, names

_TOKEN = re.compile(
    r'\s+|\#[^\n]*|(?P<define>[A-Za-z_][\w-]*\s*::=)|(?P<name>[A-Za-z_][\w-]*)|(?P<literal>"(?:\\.|[^"\\\n])*")'
    r"|(?P<class>\[(?:\\.|[^\]\\])*\])|(?P<count>\{\s*\d+\s*(?:,\s*\d*\s*)?\})|(?P<ahead>\(=)|(?P<sign>[|()*+?.])",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|(.)", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0", "a": "\a", "b": "\b", "e": "\x1b"}
_MOST_REPEATS = 3000
_DEEPEST = 60


class EbnfParser:
    """Reads the rules of a text."""

    def __init__(self, text: str) -> None:
        self._tokens = list(self._split(text))
        self._at = 0
        self._rule = ""

    def parse(self) -> dict[str, Expression]:
        """Return the rules by their names. Raises RequestError for what is not valid, with the rule it stands in."""
        rules: dict[str, Expression] = {}
        while self._at < len(self._tokens):
            kind, written = self._take()
            if kind != "define":
                self._fail(f"{written} stands outside of a rule")
            self._rule = written[:-3].rstrip()
            if self._rule in rules:
                self._fail("it is defined twice")
            rules[self._rule] = self._choice(0)
        for name in {name for rule in rules.values() for name in names(rule)} - rules.keys():
            fail(f"there is no rule {name}", "define it")
        return rules

    @staticmethod
    def _split(text: str) -> Iterator[tuple[str, str]]:
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                line = text.count("\n", 0, at) + 1
                fail(f"line {line} has {text[at : at + 20]!r}", "write rules as name ::= expression")
            at = match.end()
            if match.lastgroup:
                yield match.lastgroup, match[0]

    def _fail(self, what: str) -> NoReturn:
        fail(f"in the rule {self._rule or '(none)'}, {what}", "correct the rule")

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
        return options[0] if len(options) == 1 else Alternation(tuple(options))

    def _sequence(self, depth: int) -> Expression:
        items: list[Expression] = []
        while True:
            kind, written = self._peek()
            if kind in ("", "define") or written in ("|", ")"):
                return items[0] if len(items) == 1 else Concatenation(tuple(items))
            item = self._atom(depth)
            while counts := self._quantifier():
                item = Quantified(item, *counts)
            items.append(item)

    def _atom(self, depth: int) -> Expression:
        kind, written = self._take()
        match kind:
            case "name":
                return Name(written)
            case "literal":
                return Terminal("".join(map(chr, _characters(written[1:-1]))))
            case "class":
                return Class(self._class(written[1:-1]))
            case "ahead":
                self._fail("look-ahead is not supported")
        if written == ".":
            return Class(charset.EVERY)
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
