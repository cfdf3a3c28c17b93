"""The check that a JSON schema is valid: each keyword has a value of its form, each reference a target.

Whether a valid schema can be enforced is another question. The check takes time linear in the schema, and no recursion.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import RequestError
from ...text import one_line
from ..budget import spend
from .keywords import REFERENCE, SCHEMA, Form
from .references import Place, References

_SHOWN = 60  # characters of an invalid value in an error


class InvalidSchema(RequestError):
    """A value in a schema that is valid in no draft, with its JSON pointer."""


@dataclass(frozen=True, slots=True, eq=False)
class _Value:
    """A value in a schema, its place, and the form that it must have."""

    value: Any
    form: Form
    place: Place


@dataclass(frozen=True, slots=True, eq=False)
class ValidSchema:
    """A valid schema: the places of the schemas inside it, by the ids of their objects, and all of their keywords."""

    references: References
    places: dict[int, Place] = field(default_factory=dict)
    keywords: set[str] = field(default_factory=set)


def check_valid(schema: Any) -> ValidSchema:
    """Return the schema's places. Raises InvalidSchema for the first value that is valid in no draft from 4 to 2020-12.
    A reference to another document is valid."""
    valid = ValidSchema(references := References(schema))
    todo = [_Value(schema, SCHEMA, Place("#", references.root))]
    while todo:
        # A reference may precede the identifier that it is to. Its target may stand where no keyword expects a schema.
        todo += [target for ref in list(_check_forms(todo.pop(), valid)) for target in _target(ref, references)]
    return valid


def _check_forms(start: _Value, valid: ValidSchema) -> Iterator[_Value]:
    """Check the value at a place and all values inside; record the schemas; yield the references."""
    todo = [start]
    while todo:
        found = todo.pop()
        value, form, place = found.value, found.form, found.place
        if not form.matches(value):
            raise _invalid(found, f"it must be {form.wanted}")
        if form.schema and isinstance(value, Mapping):
            if id(value) in valid.places:
                continue
            try:
                place = Place(place.step, valid.references.enter(value, place.resource), place.outer)
            except ValueError as exc:
                raise _invalid(found, f"its identifier must be a URI: {exc}") from exc
            valid.places[id(value)] = place
            valid.keywords.update(value)
        if form is REFERENCE:
            yield found
        inner = [_Value(part, form, place.inside(step)) for step, part, form in form.parts(value)]
        spend((len(inner) + 1) // 2)
        todo += reversed(inner)


def _target(ref: _Value, references: References) -> Iterator[_Value]:
    """The target of a reference, unless it is in another document."""
    try:
        if found := references.resolve(ref.value, ref.place.resource):
            value, resource = found
            yield _Value(value, SCHEMA, Place(ref.value, resource))
    except LookupError as exc:
        raise _invalid(ref, "it must be the JSON pointer or anchor of a schema, such as #/$defs/NAME") from exc
    except ValueError as exc:
        raise _invalid(ref, f"it must be a URI: {exc}") from exc


def _invalid(found: _Value, hint: str) -> InvalidSchema:
    shown = one_line(json.dumps(found.value, ensure_ascii=False), _SHOWN)
    return InvalidSchema(f"the schema is not valid: {found.place} is {shown}", hint=hint)
