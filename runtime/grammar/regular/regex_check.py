"""The check that a regular expression is valid, in ECMA's syntax or in Python's. Whether it is supported is another
question.
"""

import re

# An escape, a class, flags, the opening of a group, a quantifier, or any other character.
_PART = re.compile(
    r"\\.|\[(?:\\.|[^\]\\])*\]|(?P<flags>\(\?[a-zA-Z]+\))|\(\?(?:[a-zA-Z-]*:|[=!]|<[=!]|P?<\w+>)"
    r"|(?P<quantifier>[*+?]|\{(?P<least>\d+)(?:,(?P<most>\d*))?\})|.",
    re.DOTALL,
)


def is_regex(pattern: str) -> bool:
    """Return whether brackets are balanced, and something that can be repeated precedes each quantifier. Takes time
    linear in the pattern."""
    depth = 0
    repeatable, quantified = False, False  # what precedes
    for match in _PART.finditer(pattern):
        part = match[0]
        if match["quantifier"]:
            modifies = quantified and part in "?+"  # lazy, or possessive
            if not (repeatable or modifies) or _is_reversed(match["least"], match["most"]):
                return False
            repeatable, quantified = False, not modifies
            continue
        if part in ("[", "\\"):  # a class that does not end, or a pattern that ends with a backslash
            return False
        opens = part.startswith("(") and not match["flags"]
        depth += 1 if opens else -1 if part == ")" else 0
        if depth < 0:
            return False
        repeatable, quantified = not (opens or match["flags"] or part == "|"), False
    return depth == 0


def _is_reversed(least: str | None, most: str | None) -> bool:
    """Whether a quantifier's bounds are in the wrong order. They may have more digits than int() takes."""
    if not least or not most:
        return False
    low, high = (digits.lstrip("0") for digits in (least, most))
    return (len(low), low) > (len(high), high)
