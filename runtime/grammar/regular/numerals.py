"""Numbers as texts: the decimal numerals of JSON that lie between bounds.

Digits are bounded, so that a weak model does not write them for ever: 20 before the point and after it, two in an
exponent. Between bounds there are fewer after the point, so that a number still lies between them once a float has
rounded it, and multiples are no longer than a float keeps; and there is no exponent unless the bounds are zero.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from ...errors import RequestError
from .charset import DIGITS
from .charset import chars as charset
from .language import ANY, EMPTY, Language, chars, concat, intersection, minus, repeat, union, word
from .multiples import multiples

INTEGER_DIGITS = 20
FRACTION_DIGITS = 20
_EXPONENT_DIGITS = 2
_FLOAT_DIGITS = 15  # that a float keeps
_MOST_DIGITS = 40
_LARGEST_DIVISOR = 1000
_MOST_REMAINDERS = 1500  # of a multiple, at all its digits before the point

_DIGIT, _SIGN, _POINT = chars(DIGITS), word("-"), word(".")
_ZEROS = repeat(word("0"), 0, None)
_EXPONENT = concat(chars(charset("eE")), repeat(chars(charset("+-")), 0, 1), repeat(_DIGIT, 1, _EXPONENT_DIGITS))


@dataclass(frozen=True, slots=True)
class Bound:
    """An end of a range of numbers, which is in it unless it is `exclusive`."""

    value: Decimal
    exclusive: bool = False


def numerals(
    least: Bound | None = None,
    most: Bound | None = None,
    *,
    integer: bool = False,
    steps: tuple[Decimal, ...] = (),
    not_steps: tuple[Decimal, ...] = (),
    excluded: tuple[Decimal, ...] = (),
) -> Language:
    """Return the numerals of the numbers from `least` to `most` that are multiples of all `steps`, of none of
    `not_steps`, and none of those `excluded`. Raises RequestError for bounds and steps that are too large."""
    bounds = [bound for bound in (least, most) if bound is not None and bound.value]
    sizes = [len(_split(bound.value)[0]) for bound in bounds]
    digits = min([INTEGER_DIGITS, *(_digits_of_multiples(step) for step in (*steps, *not_steps))])
    if steps and not integer:
        digits = min(digits, max(1, _FLOAT_DIGITS - max(_factors(step)[2] for step in steps)))
    if (least is not None and least.value > 0) or (most is not None and most.value < 0):
        digits = max([digits, *sizes])
    if digits > _MOST_DIGITS:
        raise RequestError("a number has to have more than 40 digits", hint="choose bounds that are closer to zero")
    places = 0 if integer else FRACTION_DIGITS
    if bounds and not integer:
        places = max(1, _FLOAT_DIGITS - min(max(sizes), _FLOAT_DIGITS))
    form = _Form(digits, places)
    language = intersection(form.signed(), form.at_least(least), form.at_most(most))
    for step in steps:
        language = intersection(language, concat(repeat(_SIGN, 0, 1), _multiples(step)))
    for step in not_steps:
        language = minus(language, concat(repeat(_SIGN, 0, 1), _multiples(step)))
    for value in excluded:
        language = minus(language, form.equal(value))
    if integer or bounds or steps or not_steps or excluded:
        return language
    return concat(language, repeat(_EXPONENT, 0, 1))


def fractions() -> Language:
    """Return the numerals of numbers that are no integers."""
    last = concat(chars(((49, 57),)), _ZEROS)
    return intersection(
        _Form(INTEGER_DIGITS, FRACTION_DIGITS).signed(), concat(ANY, _POINT, repeat(_DIGIT, 0, None), last)
    )


@dataclass(frozen=True, slots=True)
class _Form:
    """Numerals with at most so many digits before and after the point."""

    digits: int
    places: int

    def unsigned(self) -> Language:
        whole = union(word("0"), concat(_between(1, 9), repeat(_DIGIT, 0, self.digits - 1)))
        return concat(whole, self._fraction())

    def signed(self) -> Language:
        return concat(repeat(_SIGN, 0, 1), self.unsigned())

    def at_least(self, bound: Bound | None) -> Language:
        if bound is None:
            return ANY
        if bound.value > 0 or (bound.value == 0 and bound.exclusive):
            return self._above(bound)
        return union(self.unsigned(), concat(_SIGN, self._below(bound)))

    def at_most(self, bound: Bound | None) -> Language:
        if bound is None:
            return ANY
        if bound.value < 0 or (bound.value == 0 and bound.exclusive):
            return concat(_SIGN, self._above(bound))
        return union(concat(_SIGN, self.unsigned()), self._below(bound))

    def equal(self, value: Decimal) -> Language:
        return intersection(self.signed(), self.at_least(Bound(value)), self.at_most(Bound(value)))

    def _fraction(self) -> Language:
        return repeat(concat(_POINT, repeat(_DIGIT, 1, self.places)), 0, 1) if self.places else EMPTY

    def _above(self, bound: Bound) -> Language:
        """Unsigned numerals above the bound's magnitude."""
        whole, fraction = _split(bound.value)
        options = [concat(_between(1, 9), repeat(_DIGIT, len(whole), self.digits - 1), self._fraction())]
        for index, digit in enumerate(whole):
            rest = repeat(_DIGIT, len(whole) - index - 1, len(whole) - index - 1)
            options.append(concat(word(whole[:index]), _between(int(digit) + 1, 9), rest, self._fraction()))
        start = concat(word(whole), _POINT)
        for index, digit in enumerate(fraction):
            options.append(concat(start, word(fraction[:index]), _between(int(digit) + 1, 9), repeat(_DIGIT, 0, None)))
        options.append(concat(start, word(fraction), _ZEROS, _between(1, 9), repeat(_DIGIT, 0, None)))
        if not bound.exclusive:
            equal = concat(start, word(fraction), _ZEROS)
            options.append(equal if fraction else union(word(whole), equal))
        return intersection(union(*options), self.unsigned())

    def _below(self, bound: Bound) -> Language:
        """Unsigned numerals below the bound's magnitude."""
        return minus(self.unsigned(), self._above(Bound(bound.value, not bound.exclusive)))


def _between(low: int, high: int) -> Language:
    return chars(((48 + low, 48 + high),)) if low <= high else union()


def _split(value: Decimal) -> tuple[str, str]:
    whole, _, fraction = format(abs(value), "f").partition(".")
    return whole.lstrip("0") or "0", fraction.rstrip("0")


def _multiples(step: Decimal) -> Language:
    """Unsigned numerals of the multiples of a number."""
    divisor, zeros, scale = _factors(step)
    if not zeros:
        return multiples(divisor, scale)
    end = concat(word("0" * zeros), repeat(concat(_POINT, repeat(word("0"), 1, None)), 0, 1))
    return union(intersection(concat(repeat(_DIGIT, 1, None), end), concat(multiples(divisor), end)), _zero())


def _zero() -> Language:
    return concat(word("0"), repeat(concat(_POINT, repeat(word("0"), 1, None)), 0, 1))


def _factors(step: Decimal) -> tuple[int, int, int]:
    """Return the step as divisor * 10 ** zeros / 10 ** scale, of which zeros or scale is 0."""
    scale = len(_split(step)[1])
    divisor, zeros = int(step.scaleb(scale)), 0
    while scale == 0 and divisor % 10 == 0:
        divisor, zeros = divisor // 10, zeros + 1
    if divisor > _LARGEST_DIVISOR:
        raise RequestError(f"multipleOf {step} is not supported", hint="choose a smaller one")
    return divisor, zeros, scale


def _digits_of_multiples(step: Decimal) -> int:
    """Return how many digits before the point leave the automaton small: it has a state for each and each remainder."""
    divisor, zeros, _ = _factors(step)
    return max(len(str(divisor)) + 2, _MOST_REMAINDERS // divisor) + zeros


def without_values(language: Language, values: Iterable[Decimal]) -> Language:
    """Return the numerals of a language without those of the values, and without exponents."""
    form = _Form(_MOST_DIGITS, _MOST_DIGITS)
    return minus(intersection(language, form.signed()), union(*map(form.equal, values)))
