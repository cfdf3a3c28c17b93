"""What a language costs an engine, estimated before it is compiled.

xgrammar finds for each state of an automaton which of the vocabulary's tokens it allows. With GLM-4's 151,552 that
takes 0.027 CPU seconds where most are, and next to nothing where few are, as in numbers and constants. The share is
estimated by the kinds of characters that tokens consist of.
"""

from functools import lru_cache

from ..regular.automaton import State, states
from ..regular.charset import Ranges, contains, normalise

_WIDE_STATE = 0.027  # CPU seconds of a state that allows every token
_STATE = 2e-4  # of any state

# The kinds of characters, by some of each, and the share of GLM-4's tokens that consist of those kinds alone.
_KINDS = {
    "lower": "abdefghijklmnopqrstuvwyz",
    "upper": "ABDEFGHIJKLMNOPQRSTUVWYZ",
    "digit": "0123456789",
    "blank": " ",
    "sign": "!#$%&'()*+,-./:;<=>?@[]^_`{|}~",
    "control": "\n\t",
    "other": "éñüßж的一了是中日한あア",
}
_SHARES = {
    "other": 0.23,
    "blank lower": 0.19,
    "lower": 0.13,
    "blank lower upper": 0.10,
    "lower sign": 0.08,
    "blank other": 0.06,
    "lower upper": 0.05,
    "lower sign upper": 0.03,
    "upper": 0.02,
    "blank upper": 0.02,
    "blank lower other": 0.02,
    "sign upper": 0.02,
    "sign": 0.02,
    "lower other": 0.01,
    "control sign": 0.01,
    "digit": 0.003,
}
_MOST_OF_A_KIND = 0.6


def seconds(first: State) -> float:
    """Return the CPU seconds in which an automaton is compiled as a string or a text."""
    return sum(_STATE + _WIDE_STATE * _share(_allowed(state)) for state in states(first))


def _allowed(state: State) -> Ranges:
    return normalise(part for ranges, _ in state.moves for part in ranges)


@lru_cache(maxsize=4096)
def _share(ranges: Ranges) -> float:
    """Return the share of the tokens that consist of such characters alone."""
    kinds = {
        kind
        for kind, characters in _KINDS.items()
        if sum(contains(ranges, ord(character)) for character in characters) >= _MOST_OF_A_KIND * len(characters)
    }
    return sum(share for needed, share in _SHARES.items() if kinds.issuperset(needed.split()))
