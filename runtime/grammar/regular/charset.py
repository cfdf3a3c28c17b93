"""Sets of characters: sorted ranges of code points that neither overlap nor touch. Surrogates are in none of them."""

from bisect import bisect_right
from collections.abc import Iterable
from functools import cache

Ranges = tuple[tuple[int, int], ...]

MAX_CODE_POINT = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)


def normalise(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sort ranges and merge those that overlap or touch."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def subtract(ranges: Ranges, removed: Ranges) -> Ranges:
    """Return the characters of `ranges` that are not in `removed`. Takes time linear in both."""
    left: list[tuple[int, int]] = []
    index = 0
    for first, high in ranges:
        while index < len(removed) and removed[index][1] < first:
            index += 1
        at, low = index, first
        while at < len(removed) and removed[at][0] <= high:
            if low < removed[at][0]:
                left.append((low, removed[at][0] - 1))
            low = removed[at][1] + 1
            at += 1
        if low <= high:
            left.append((low, high))
    return tuple(left)


def contains(ranges: Ranges, code_point: int) -> bool:
    """Whether the character is in the set."""
    index = bisect_right(ranges, (code_point, MAX_CODE_POINT)) - 1
    return index >= 0 and code_point <= ranges[index][1]


def single(character: str) -> Ranges:
    """The set of one character."""
    return ((ord(character), ord(character)),)


def chars(characters: str) -> Ranges:
    """The set of these characters."""
    return normalise((ord(character), ord(character)) for character in characters)


def invert(ranges: Ranges) -> Ranges:
    """All characters that are not in the set."""
    return subtract(EVERY, ranges)


EVERY: Ranges = subtract(((0, MAX_CODE_POINT),), (_SURROGATES,))
DIGITS: Ranges = ((48, 57),)
WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
HEX: Ranges = ((48, 57), (65, 70), (97, 102))
# ECMA-262's WhiteSpace and LineTerminator.
SPACE: Ranges = normalise(
    (ord(character), ord(character))
    for character in "\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff"
    + "".join(map(chr, range(0x2000, 0x200B)))
)
NO_LINE_END: Ranges = invert(chars("\n\r\u2028\u2029"))
UNESCAPED: Ranges = invert(((0, 31), (34, 34), (92, 92)))  # what a JSON string may hold as it is


@cache
def category(name: str) -> Ranges:
    r"""The characters of a Unicode general category (`Lu`) or of a group of them (`L`), as in `\p{Lu}`; () if there is
    none of that name. Takes a quarter of a second the first time."""
    return _categories().get(name, ())


@cache
def _categories() -> dict[str, Ranges]:
    import unicodedata

    found: dict[str, list[tuple[int, int]]] = {}
    for code_point in range(MAX_CODE_POINT + 1):
        name = unicodedata.category(chr(code_point))
        ranges = found.setdefault(name, [])
        if ranges and ranges[-1][1] == code_point - 1:
            ranges[-1] = (ranges[-1][0], code_point)
        else:
            ranges.append((code_point, code_point))
    del found["Cs"]
    groups: dict[str, list[tuple[int, int]]] = {}
    for name, ranges in found.items():
        groups.setdefault(name[0], []).extend(ranges)
    return {name: normalise(ranges) for name, ranges in (found | groups).items()}
