"""Regular languages with intersection and complement, by Brzozowski's derivatives.

A language is an expression. Its derivative by a character is the language of what may follow that character, which is
an expression again; there are finitely many of them. Equal expressions are one object, so they are compared by
identity, and each keeps what was computed of it.

https://doi.org/10.1145/321239.321249 (Brzozowski 1964), https://doi.org/10.1017/S0956796808007090 (Owens 2009)
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from ..budget import spend
from ..interning import Interned, intern
from .charset import EVERY, MAX_CODE_POINT, Ranges, contains, normalise, subtract

_ZERO = ord("0")


class Language(Interned):
    """A set of texts. `empty` says whether the empty text is one of them."""

    __slots__ = ("_borders", "_derivatives", "empty", "state")

    empty: bool

    def __init__(self) -> None:
        super().__init__()
        self.state: Any = None  # what `automaton` found out about it
        self._derivatives: dict[int, Language] = {}
        self._borders: frozenset[int] | None = None

    def derive(self, code_point: int) -> "Language":
        """Return the language of what may follow this character at the beginning."""
        found = self._derivatives.get(code_point)
        if found is None:
            found = self._derivatives[code_point] = self._derive(code_point)
        return found

    def _derive(self, code_point: int) -> "Language":
        raise NotImplementedError

    def borders(self) -> frozenset[int]:
        """Code points between which the derivative does not change: each begins a range of equal characters."""
        if self._borders is None:
            self._borders = self._find_borders()
        return self._borders

    def _find_borders(self) -> frozenset[int]:
        return frozenset()

    def widen(self) -> "Language":
        """Return a larger language with few derivatives: without counts, complements and remainders."""
        return self


class Empty(Language):
    """The empty text."""

    __slots__ = ()
    empty = True

    def _derive(self, code_point: int) -> Language:
        return NOTHING


class Chars(Language):
    """One character of a set."""

    __slots__ = ("ranges",)
    empty = False

    def __init__(self, ranges: Ranges) -> None:
        super().__init__()
        self.ranges = ranges

    def _derive(self, code_point: int) -> Language:
        return EMPTY if contains(self.ranges, code_point) else NOTHING

    def _find_borders(self) -> frozenset[int]:
        return frozenset(border for low, high in self.ranges for border in (low, high + 1))


class Words(Language):
    """Some words, sorted, of which the first `read` characters were read."""

    __slots__ = ("_following", "options", "read")

    def __init__(self, options: tuple[str, ...], read: int) -> None:
        super().__init__()
        self.options, self.read = options, read
        self.empty = len(options[0]) == read
        following: dict[int, list[str]] = {}
        for option in options[1:] if self.empty else options:
            following.setdefault(ord(option[read]), []).append(option)
        spend(len(options) // 16)
        self._following = following

    def _derive(self, code_point: int) -> Language:
        left = self._following.get(code_point)
        return _words(tuple(left), self.read + 1) if left else NOTHING

    def _find_borders(self) -> frozenset[int]:
        return frozenset(border for first in self._following for border in (first, first + 1))


class Concat(Language):
    """A text of the first language, and one of the rest after it."""

    __slots__ = ("first", "rest")

    def __init__(self, first: Language, rest: Language) -> None:
        super().__init__()
        self.first, self.rest = first, rest
        self.empty = first.empty and rest.empty

    def _derive(self, code_point: int) -> Language:
        options: list[Language] = []
        part: Language = self
        while isinstance(part, Concat):  # no recursion: there may be thousands of optional parts
            options.append(concat(part.first.derive(code_point), part.rest))
            if not part.first.empty:
                return union(*options)
            part = part.rest
        return union(*options, part.derive(code_point))

    def _find_borders(self) -> frozenset[int]:
        borders = set[int]()
        part: Language = self
        while isinstance(part, Concat):
            borders |= part.first.borders()
            if not part.first.empty:
                return frozenset(borders)
            part = part.rest
        return frozenset(borders | part.borders())

    def widen(self) -> Language:
        return concat(*(part.widen() for part in chain(self)))


class Union(Language):
    """A text of any of the parts."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Language, ...]) -> None:
        super().__init__()
        self.parts = parts
        self.empty = any(part.empty for part in parts)
        spend(len(parts) // 4)

    def _derive(self, code_point: int) -> Language:
        return union(*(part.derive(code_point) for part in self.parts))

    def _find_borders(self) -> frozenset[int]:
        return frozenset().union(*(part.borders() for part in self.parts))

    def widen(self) -> Language:
        return union(*(part.widen() for part in self.parts))


class Intersection(Language):
    """A text of all of the parts."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Language, ...]) -> None:
        super().__init__()
        self.parts = parts
        self.empty = all(part.empty for part in parts)
        spend(len(parts) // 4)

    def _derive(self, code_point: int) -> Language:
        return intersection(*(part.derive(code_point) for part in self.parts))

    def _find_borders(self) -> frozenset[int]:
        return frozenset().union(*(part.borders() for part in self.parts))

    def widen(self) -> Language:
        return intersection(*(part.widen() for part in self.parts))


class Complement(Language):
    """Every text that is none of the part's."""

    __slots__ = ("part",)

    def __init__(self, part: Language) -> None:
        super().__init__()
        self.part = part
        self.empty = not part.empty

    def _derive(self, code_point: int) -> Language:
        return complement(self.part.derive(code_point))

    def _find_borders(self) -> frozenset[int]:
        return self.part.borders()

    def widen(self) -> Language:
        return ANY


class Repetition(Language):
    """`part` from `least` to `most` times; None: without end."""

    __slots__ = ("least", "most", "part")

    def __init__(self, part: Language, least: int, most: int | None) -> None:
        super().__init__()
        self.part, self.least, self.most = part, least, most
        self.empty = least == 0 or part.empty

    def _derive(self, code_point: int) -> Language:
        most = None if self.most is None else self.most - 1
        return concat(self.part.derive(code_point), repeat(self.part, max(0, self.least - 1), most))

    def _find_borders(self) -> frozenset[int]:
        return self.part.borders()

    def widen(self) -> Language:
        part, few = self.part.widen(), 4
        if self.most is None:
            return repeat(part, self.least if self.least <= few else 1, None)
        return repeat(part, self.least, self.most) if self.most <= few else repeat(part, min(self.least, 1), None)


def _words(options: tuple[str, ...], read: int) -> Language:
    return EMPTY if len(options) == 1 and len(options[0]) == read else intern(Words, options, read)


EMPTY: Language = intern(Empty)
NOTHING: Language = intern(Union, ())


def chars(ranges: Ranges) -> Language:
    """One character of the set."""
    return intern(Chars, ranges) if ranges else NOTHING


def words(options: Iterable[str]) -> Language:
    """These texts, whole."""
    return _words(found, 0) if (found := tuple(sorted(set(options)))) else NOTHING


def word(text: str) -> Language:
    """One text, whole."""
    return _words((text,), 0)


def chain(language: Language) -> list[Language]:
    """Return the languages that it is a concatenation of."""
    parts = []
    while isinstance(language, Concat):
        parts.append(language.first)
        language = language.rest
    return [*parts, language]


def concat(*parts: Language) -> Language:
    """One text of each, one after another."""
    result = parts[-1] if parts else EMPTY
    for part in reversed([link for before in parts[:-1] for link in chain(before)]):
        if part is NOTHING or result is NOTHING:
            result = NOTHING
        elif part is EMPTY:
            pass
        elif result is EMPTY:
            result = part
        elif part is ANY and (result is ANY or (isinstance(result, Concat) and result.first is ANY)):
            pass
        else:
            result = intern(Concat, part, result)
    return result


def union(*parts: Language) -> Language:
    """A text of any of them."""
    spend(len(parts) // 8)
    flat: dict[Language, None] = {}
    ranges: list[tuple[int, int]] = []
    for part in parts:
        for option in part.parts if isinstance(part, Union) else (part,):
            if isinstance(option, Chars):
                ranges += option.ranges
            else:
                flat[option] = None
    if ANY in flat:
        return ANY
    if ranges:
        flat[chars(normalise(ranges))] = None
    if EMPTY in flat and any(option.empty for option in flat if option is not EMPTY):
        del flat[EMPTY]
    if len(flat) == 1:
        return next(iter(flat))
    return intern(Union, tuple(sorted(flat, key=lambda option: option.number)))


def intersection(*parts: Language) -> Language:
    """A text of all of them."""
    flat: dict[Language, None] = {}
    for part in parts:
        for option in part.parts if isinstance(part, Intersection) else (part,):
            flat[option] = None
    if NOTHING in flat:
        return NOTHING
    flat.pop(ANY, None)
    if not flat:
        return ANY
    if EMPTY in flat:
        return EMPTY if all(option.empty for option in flat) else NOTHING
    if len(flat) == 1:
        return next(iter(flat))
    return intern(Intersection, tuple(sorted(flat, key=lambda option: option.number)))


def complement(part: Language) -> Language:
    """Every text that is none of this language's."""
    if isinstance(part, Complement):
        return part.part
    if part is NOTHING:
        return ANY
    return NOTHING if part is ANY else intern(Complement, part)


def repeat(part: Language, least: int, most: int | None) -> Language:
    """Texts of the language, one after another, from `least` to `most` of them; None: without end."""
    if most == 0 or part is EMPTY:
        return EMPTY
    if part is NOTHING:
        return NOTHING if least else EMPTY
    if least == most == 1 or (isinstance(part, Repetition) and part.least == 0 and part.most is None):
        return part
    return intern(Repetition, part, least, most)


def minus(part: Language, removed: Language) -> Language:
    """Texts of `part` that are none of `removed`."""
    return intersection(part, complement(removed))


ANY: Language = intern(Repetition, chars(EVERY), 0, None)


def ranges_between(borders: Iterable[int]) -> list[tuple[int, int]]:
    """Return the ranges of characters that begin at the borders, without surrogates."""
    points = sorted({0, MAX_CODE_POINT + 1, *(border for border in borders if border <= MAX_CODE_POINT)})
    return [
        part for low, high in pairwise(points) for part in subtract(EVERY, ((0, low - 1), (high, MAX_CODE_POINT + 1)))
    ]
