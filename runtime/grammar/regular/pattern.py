r"""Regular expressions become languages: the syntax of ECMA-262, which JSON Schema's `pattern` is written in.

A pattern is searched for, so its language is that of every text that has a match somewhere. Of what is not regular, or
depends on its surroundings (`\b`, back references, look-behind), nothing is supported; of look-ahead, that outside
groups.

https://tc39.es/ecma262/#sec-patterns
"""

import re
from functools import lru_cache
from typing import NoReturn

from ...errors import RequestError
from . import charset
from .charset import Ranges
from .language import ANY, EMPTY, NOTHING, Language, chars, complement, concat, intersection, repeat, union

_LONGEST = 50_000  # characters; parsing alone would take a second beyond
_MOST_REPEATS = 3000
_DEEPEST = 60  # groups inside each other

# What a part of a pattern matches, by what has to be around it: (nothing before it, nothing after it).
_Matches = dict[tuple[bool, bool], Language]

_CLASSES = {"d": charset.DIGITS, "w": charset.WORD, "s": charset.SPACE}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_QUANTIFIER = re.compile(r"([*+?])|\{([0-9]{1,4000})(?:(,)([0-9]{1,4000})?)?\}")
_CODE = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|u\{([0-9a-fA-F]{1,6})\}")
_PROPERTY = re.compile(r"[pP]\{(?:(?:gc|General_Category)=)?(\w+)\}")
_GROUP = re.compile(r"\?(?::|P?<[A-Za-z_]\w*>)")


@lru_cache(maxsize=64)
def searched(pattern: str) -> Language:
    """Return the texts in which the pattern matches somewhere. Raises RequestError for a pattern that is not valid, or
    not supported."""
    found = _Parser(pattern, around=ANY).parse()
    return union(
        *(
            concat(EMPTY if first else ANY, language, EMPTY if last else ANY)
            for (first, last), language in found.items()
        )
    )


@lru_cache(maxsize=64)
def matched(pattern: str) -> Language:
    """Return the texts that the pattern matches from the first character to the last. Raises RequestError as
    `searched` does."""
    return union(*_Parser(pattern, around=EMPTY).parse().values())


def _concat(left: _Matches, right: _Matches) -> _Matches:
    result: _Matches = {}
    for (first, last), one in left.items():
        for (then_first, then_last), other in right.items():
            # "Nothing after" and "nothing before" inside leave the other side no text.
            a = one if not then_first else EMPTY if one.empty else NOTHING
            b = other if not last else EMPTY if other.empty else NOTHING
            _add(result, (first or then_first, last or then_last), concat(a, b))
    return result


def _union(*options: _Matches) -> _Matches:
    found: dict[tuple[bool, bool], list[Language]] = {}
    for option in options:
        for around, language in option.items():
            found.setdefault(around, []).append(language)
    return {around: union(*languages) for around, languages in found.items()}


def _repeat(part: _Matches, least: int, most: int | None) -> _Matches:
    inner = part.get((False, False), NOTHING)
    result: _Matches = {}
    _add(result, (False, False), repeat(inner, least, most))
    if len(part) == (inner is not NOTHING) or most == 0:
        return result

    def others(*ends: Language) -> Language:
        """Return what stands between those at the ends of a text, of which an empty one may come several times."""
        fewest = 0 if any(end.empty for end in ends) else max(0, least - len(ends))
        return repeat(inner, fewest, None if most is None else most - len(ends))

    first, last = part.get((True, False), NOTHING), part.get((False, True), NOTHING)
    _add(result, (True, False), concat(first, others(first)))
    _add(result, (False, True), concat(others(last), last))
    if most is None or most > 1:
        _add(result, (True, True), concat(first, others(first, last), last))
    if least <= 1 or any(language.empty for language in part.values()):
        _add(result, (True, True), part.get((True, True), NOTHING))
    return result


def _add(found: _Matches, around: tuple[bool, bool], language: Language) -> None:
    if language is not NOTHING:
        found[around] = union(found[around], language) if around in found else language


class _Parser:
    """Reads a pattern. Outside of a match stands a text of `around`."""

    def __init__(self, pattern: str, around: Language) -> None:
        self._text = pattern
        self._around = around
        self._at = 0

    def parse(self) -> _Matches:
        if len(self._text) > _LONGEST:
            self._fail(f"has {len(self._text):,} characters, more than {_LONGEST:,}")
        found = self._alternatives(0)
        if self._at < len(self._text):
            self._fail("has a ) without a (")
        return found

    def _fail(self, why: str) -> NoReturn:
        shown = self._text if len(self._text) <= 80 else self._text[:79] + "…"
        raise RequestError(f"the pattern {shown!r} {why}", hint="change the pattern")

    def _next(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _take(self, text: str) -> bool:
        taken = self._next(text)
        self._at += len(text) if taken else 0
        return taken

    def _alternatives(self, depth: int) -> _Matches:
        if depth > _DEEPEST:
            self._fail("is nested too deeply")
        options = [self._sequence(depth)]
        while self._take("|"):
            options.append(self._sequence(depth))
        return _union(*options)

    def _sequence(self, depth: int) -> _Matches:
        parts: list[_Matches] = []
        while self._at < len(self._text) and not self._next("|") and not self._next(")"):
            if self._next("(?=") or self._next("(?!"):
                parts.append(self._look_ahead(parts, depth))
                break
            parts.append(self._quantified(depth))
        result: _Matches = {(False, False): EMPTY}
        for part in reversed(parts):
            result = _concat(part, result)
        return result

    def _look_ahead(self, before: list[_Matches], depth: int) -> _Matches:
        """Read a look-ahead and what follows it: the rest of the text has to match both."""
        if depth:
            self._fail("has a look-ahead inside a group, which is not supported")
        negative = self._text[self._at + 2] == "!"
        self._at += 3
        ahead = self._alternatives(1)
        if not self._take(")"):
            self._fail("has a ( without a )")
        if any(first for first, _ in ahead) and before:
            self._fail("has a ^ inside a look-ahead, which is not supported")
        seen = union(*(concat(language, EMPTY if last else ANY) for (_, last), language in ahead.items()))
        seen = complement(seen) if negative else seen
        result: _Matches = {}
        for (first, last), language in self._sequence(0).items():
            _add(result, (first, True), intersection(seen, concat(language, EMPTY if last else self._around)))
        return result

    def _quantified(self, depth: int) -> _Matches:
        repeatable = self._text[self._at] not in "^$"
        part = self._atom(depth)
        while match := _QUANTIFIER.match(self._text, self._at):
            if not repeatable:
                self._fail(f"has a {match[0]} with nothing to repeat")
            self._at = match.end()
            part, repeatable = _repeat(part, *self._counts(match)), False
            self._take("?")  # lazy or greedy: the language is the same
        return part

    def _counts(self, match: "re.Match[str]") -> tuple[int, int | None]:
        """Return how often a quantifier repeats, at least and at most."""
        sign, low, several, high = match.groups()
        if sign:
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        least = int(low)
        most = (int(high) if high else None) if several else least
        if max(least, most or 0) > _MOST_REPEATS:
            self._fail(f"repeats more than {_MOST_REPEATS:,} times")
        if most is not None and most < least:
            self._fail("has a count that ends before it begins")
        return least, most

    def _atom(self, depth: int) -> _Matches:
        character = self._text[self._at]
        self._at += 1
        match character:
            case "(":
                return self._group(depth)
            case "^":
                return {(True, False): EMPTY}
            case "$":
                return {(False, True): EMPTY}
            case "*" | "+" | "?":
                self._fail(f"has a {character} with nothing to repeat")
        if character == ".":
            ranges = charset.NO_LINE_END
        elif character == "[":
            ranges = self._class()
        elif character == "\\":
            ranges = self._escape(in_class=False)
        else:
            ranges = charset.single(character)
        return {(False, False): chars(ranges)} if ranges else {}

    def _group(self, depth: int) -> _Matches:
        if self._next("?"):
            match = _GROUP.match(self._text, self._at)
            if match is None:
                self._fail(f"has a ({self._text[self._at : self._at + 2]} group, which is not supported")
            self._at = match.end()
        found = self._alternatives(depth + 1)
        if not self._take(")"):
            self._fail("has a ( without a )")
        return found

    def _escape(self, *, in_class: bool) -> Ranges:
        if self._at == len(self._text):
            self._fail("ends with a backslash")
        character = self._text[self._at]
        self._at += 1
        if character.lower() in _CLASSES:
            ranges = _CLASSES[character.lower()]
            return ranges if character.islower() else charset.invert(ranges)
        if character in _CONTROLS:
            return charset.single(_CONTROLS[character])
        if character == "b" and in_class:
            return charset.single("\b")
        if match := _CODE.match(self._text, self._at - 1):
            return self._code(match)
        if match := _PROPERTY.match(self._text, self._at - 1):
            self._at = match.end()
            if not (ranges := charset.category(match[1])):
                self._fail(f"has the property {match[1]}, which is not supported")
            return ranges if character == "p" else charset.invert(ranges)
        if character == "c" and self._text[self._at : self._at + 1].isalpha():
            self._at += 1
            return charset.single(chr(ord(self._text[self._at - 1]) % 32))
        if character.isalnum():
            self._fail(f"has a \\{character}, which is not supported")
        return charset.single(character)

    def _code(self, match: "re.Match[str]") -> Ranges:
        pair = match[3] and 0xD800 <= int(match[2], 16) < 0xDC00
        self._at = match.end() if pair or not match[3] else match.end(2)
        code = int(match[1] or match[2] or match[4], 16)
        if pair:
            code = 0x10000 + ((code - 0xD800) << 10) + int(match[3], 16) - 0xDC00
        return charset.subtract(((code, code),), ((0xD800, 0xDFFF),)) if code <= charset.MAX_CODE_POINT else ()

    def _class(self) -> Ranges:
        negated = self._take("^")
        found: list[tuple[int, int]] = []
        while not self._take("]"):
            low = self._class_member()
            if self._next("-") and not self._next("-]") and _is_single(low):
                self._at += 1
                high = self._class_member()
                if not _is_single(high):
                    found += [*low, *high, (ord("-"), ord("-"))]
                elif high[0][0] < low[0][0]:
                    self._fail("has a range that ends before it begins")
                else:
                    found.append((low[0][0], high[0][0]))
            else:
                found += low
        ranges = charset.subtract(charset.normalise(found), ((0xD800, 0xDFFF),))
        return charset.invert(ranges) if negated else ranges

    def _class_member(self) -> Ranges:
        if self._at == len(self._text):
            self._fail("has a [ without a ]")
        character = self._text[self._at]
        self._at += 1
        return self._escape(in_class=True) if character == "\\" else charset.single(character)


def _is_single(ranges: Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]
