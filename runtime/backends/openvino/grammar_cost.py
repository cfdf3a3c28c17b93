"""An estimate of what a pattern costs to compile, made before it is tried.

xgrammar computes for each state of an automaton which of the vocabulary's tokens it allows. With GLM-4's 151,552 tokens
that takes 0.027 to 0.045 CPU seconds for a state that allows most of them, and next to nothing for one that allows few
(digits, constants). A counted repeat is unrolled, so counts of wide classes are expensive.
"""

import re
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from ...errors import RequestError

_WIDE = 0.025 / 151_552  # CPU seconds of a state that allows most tokens, for each token of the vocabulary
_STATE = 4e-5  # CPU seconds of any state: those of a long text, or of one letter many times
_CHARS = 96  # of ASCII that can be seen: a class of so many is a wide one
_NARROW = 20  # characters, up to which a class costs nothing
_CATEGORIES = {_constants.CATEGORY_DIGIT: 10, _constants.CATEGORY_WORD: 63, _constants.CATEGORY_SPACE: 6}


def seconds(pattern: str, vocab: int) -> float:
    """Estimate the CPU seconds in which xgrammar compiles the pattern, with `vocab` tokens; 0 if it cannot be
    parsed."""
    try:
        wide, states = _states(_parser.parse(pattern))
    except (re.error, RecursionError, OverflowError):
        return 0.0
    return wide * _WIDE * vocab + states * _STATE


def too_expensive() -> RequestError:
    """Return the error of a grammar that would take too long to compile."""
    return RequestError(
        "the grammar takes more than a second to compile, which every other reply would wait for",
        hint="shorten its lengths and counted repeats, or have fewer optional properties",
    )


def _states(parsed: Any) -> tuple[float, int]:
    """Return the number of states that allow most tokens, fractional for narrower classes, and that of all states."""
    wide, states = 0.0, 0
    for op, value in parsed:
        if op in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
            low, high, inner = value
            times = low + 1 if high is _constants.MAXREPEAT else max(high, 1)
            parts = [(_states(inner), times)]
        elif op is _constants.SUBPATTERN:
            parts = [(_states(value[-1]), 1)]
        elif op is _constants.BRANCH:
            parts = [(_states(branch), 1) for branch in value[1]]
        elif op in (_constants.NOT_LITERAL, _constants.ANY):
            parts = [((1.0, 1), 1)]
        else:
            parts = [((_share(value) if op is _constants.IN else 0.0, 1), 1)]
        wide += sum(part[0] * times for part, times in parts)
        states += sum(part[1] * times for part, times in parts)
    return wide, states


def _share(members: Any) -> float:
    """Return the share of printable ASCII that a character class matches, 0 to 1; 0 for a small class."""
    count, negated = 0, False
    for op, value in members:
        if op is _constants.NEGATE:
            negated = True
        elif op is _constants.RANGE:
            count += min(value[1], 127) - min(value[0], 127) + 1
        elif op is _constants.CATEGORY:
            count += _CATEGORIES.get(value, _CHARS)
        else:
            count += 1
    count = max(_CHARS - count, 0) if negated else min(count, _CHARS)
    return count / _CHARS if count > _NARROW else 0.0
