"""What schemas say about numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction
from typing import Any

from ..regular.language import Language, intersection
from ..regular.numerals import Bound, fractions, numerals
from .document import Schema

_HUGE = Decimal(10) ** 119  # no numeral of ours is as large


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers for which some schemas are valid."""

    least: Bound | None
    most: Bound | None
    integer: bool
    fraction: bool
    steps: tuple[Decimal, ...]
    not_steps: tuple[Decimal, ...]
    excluded: tuple[Decimal, ...]

    @classmethod
    def of(cls, schemas: Sequence[Schema]) -> "Numbers":
        """Collect the keywords."""
        lower, upper = list[Bound](), list[Bound]()
        for schema in schemas:
            for bounds, keyword, exclusive in (
                (lower, "minimum", "exclusiveMinimum"),
                (upper, "maximum", "exclusiveMaximum"),
            ):
                other = schema.get(exclusive)
                if keyword in schema:
                    bounds.append(Bound(exact(schema[keyword]), other is True))
                if exclusive in schema and not isinstance(other, bool):
                    bounds.append(Bound(exact(schema[exclusive]), exclusive=True))
        integer = any(types(schema) & {"integer", "number"} == {"integer"} for schema in schemas)
        # Of equal bounds the exclusive one is narrower.
        least = max(lower, key=lambda bound: (bound.value, bound.exclusive), default=None)
        most = min(upper, key=lambda bound: (bound.value, not bound.exclusive), default=None)
        if integer:
            least, most = _round(least, ROUND_CEILING, 1), _round(most, ROUND_FLOOR, -1)
        steps = tuple(exact(schema["multipleOf"]) for schema in schemas if "multipleOf" in schema)
        return cls(
            None if least is None or least.value <= -_HUGE else least,
            None if most is None or most.value >= _HUGE else most,
            integer,
            any("~fraction" in schema for schema in schemas),
            steps,
            tuple(exact(schema["~notMultipleOf"]) for schema in schemas if "~notMultipleOf" in schema),
            tuple(exact(value) for schema in schemas for value in schema.get("~notEnum", ()) if is_number(value)),
        )

    def language(self) -> Language:
        """Return them as numerals. Raises RequestError if that is not supported."""
        found = numerals(
            self.least,
            self.most,
            integer=self.integer,
            steps=self.steps,
            not_steps=self.not_steps,
            excluded=self.excluded,
        )
        return intersection(found, fractions()) if self.fraction else found

    def accepts(self, value: int | float) -> bool:
        """Whether the number is one of them."""
        number = Fraction(exact(value))
        if self.least and (number < self.least.value or (number == self.least.value and self.least.exclusive)):
            return False
        if self.most and (number > self.most.value or (number == self.most.value and self.most.exclusive)):
            return False
        whole = number.denominator == 1
        if (self.integer and not whole) or (self.fraction and whole) or number in self.excluded:
            return False
        return all(number % Fraction(step) == 0 for step in self.steps) and all(
            number % Fraction(step) for step in self.not_steps
        )


def exact(value: int | float) -> Decimal:
    """Return a number as its shortest numeral says."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def types(schema: Schema) -> frozenset[str]:
    """Return the names of the types that a schema allows, as it writes them; all of them if it has no `type`."""
    kind = schema.get("type")
    if kind is None:
        return frozenset({"null", "boolean", "number", "integer", "string", "array", "object"})
    return frozenset((kind,) if isinstance(kind, str) else kind)


def _round(bound: Bound | None, rounding: str, step: int) -> Bound | None:
    """Return the bound of integers."""
    if bound is None or abs(bound.value) >= _HUGE:
        return bound
    value = bound.value.to_integral_value(rounding)
    return Bound(value + step if bound.exclusive and value == bound.value else value)
