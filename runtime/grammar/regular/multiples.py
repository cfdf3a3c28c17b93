"""Numerals whose value is a multiple of a number."""

from ..interning import intern
from .charset import DIGITS, contains, normalise
from .language import NOTHING, Language, chars, repeat

_ZERO = ord("0")


def multiples(divisor: int, scale: int = 0) -> Language:
    """Decimal numerals, without sign and exponent, whose value times 10 ** `scale` is a multiple of `divisor`."""
    return _multiple(divisor, scale, 0, None)


class Multiple(Language):
    """Decimal numerals whose value, times 10 ** `scale`, is a multiple of `divisor`: more digits of one of which
    `places` digits of fraction (None: no point yet) were read, with a `remainder` so far."""

    __slots__ = ("divisor", "places", "remainder", "scale")

    def __init__(self, divisor: int, scale: int, remainder: int, places: int | None) -> None:
        super().__init__()
        self.divisor, self.scale, self.remainder, self.places = divisor, scale, remainder, places
        self.empty = remainder * 10 ** (scale - (places or 0)) % divisor == 0

    def _derive(self, code_point: int) -> Language:
        if code_point == ord(".") and self.places is None:
            return self._after(self.remainder, 0)
        if not contains(DIGITS, code_point):
            return NOTHING
        digit = code_point - _ZERO
        if self.places == self.scale:  # of a fraction that has all its places, zeros may follow
            return self if digit == 0 else NOTHING
        places = None if self.places is None else self.places + 1
        return self._after((self.remainder * 10 + digit) % self.divisor, places)

    def _after(self, remainder: int, places: int | None) -> Language:
        if places is not None:
            left = 10 ** (self.scale - places)
            if -remainder * left % self.divisor >= left:  # what the digits left would have to add
                return NOTHING
        return _multiple(self.divisor, self.scale, remainder, places)

    def _find_borders(self) -> frozenset[int]:
        return frozenset((ord("."), ord(".") + 1, *range(_ZERO, _ZERO + 11)))

    def widen(self) -> Language:
        """Return digits and points."""
        return repeat(chars(normalise((*DIGITS, (ord("."), ord("."))))), 0, None)


def _multiple(divisor: int, scale: int, remainder: int, places: int | None) -> Language:
    return intern(Multiple, divisor, scale, remainder, places)
