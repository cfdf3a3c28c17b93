"""The check that a JSON schema is valid: each keyword has a value of its form, each reference a target.

Whether a valid schema can be enforced is another question. The check takes time linear in the schema, and no recursion.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import RequestError
from ...text import one_line
from .keywords import REFERENCE, SCHEMA, Form
from .references import References, Resource

_SHOWN = 60  # characters of an invalid value in an error


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A value in a schema, at `step` of the place around it."""

    value: Any
    form: Form
    resource: Resource
    step: str
    outer: "_Place | None" = None

    @property
    def pointer(self) -> str:
        """The JSON pointer to the value, written as a fragment."""
        steps, place = [], self
        while place.outer is not None:
            steps.append(place.step.replace("~", "~0").replace("/", "~1"))
            place = place.outer
        return one_line("/".join([place.step, *reversed(steps)]))


def check_valid(schema: Any) -> None:
    """Raise RequestError, with its JSON pointer, for the first value that is valid in no draft from 4 to 2020-12. A
    reference to another document is valid."""
    references = References(schema)
    seen: set[int] = set()  # the schemas, by their ids
    todo = [_Place(schema, SCHEMA, references.root, "#")]
    while todo:
        # A reference may precede the identifier that it is to. Its target may stand where no keyword expects a schema.
        todo += [
            place for ref in list(_check_forms(todo.pop(), references, seen)) for place in _target(ref, references)
        ]


def _check_forms(start: _Place, references: References, seen: set[int]) -> Iterator[_Place]:
    """Check the value at a place and all values inside; yield the references."""
    todo = [start]
    while todo:
        place = todo.pop()
        if not place.form.matches(place.value):
            raise _invalid(place, f"it must be {place.form.wanted}")
        resource = place.resource
        if place.form.schema and isinstance(place.value, Mapping):
            if id(place.value) in seen:
                continue
            seen.add(id(place.value))
            try:
                resource = references.enter(place.value, resource)
            except ValueError as exc:
                raise _invalid(place, f"its identifier must be a URI: {exc}") from exc
        if place.form is REFERENCE:
            yield place
        inner = [_Place(part, form, resource, step, place) for step, part, form in place.form.parts(place.value)]
        todo += reversed(inner)


def _target(ref: _Place, references: References) -> Iterator[_Place]:
    """The target of a reference, unless it is in another document."""
    try:
        if found := references.resolve(ref.value, ref.resource):
            yield _Place(found[0], SCHEMA, found[1], ref.value)
    except LookupError as exc:
        raise _invalid(ref, "it must be the JSON pointer or anchor of a schema, such as #/$defs/NAME") from exc
    except ValueError as exc:
        raise _invalid(ref, f"it must be a URI: {exc}") from exc


def _invalid(place: _Place, hint: str) -> RequestError:
    shown = one_line(json.dumps(place.value, ensure_ascii=False), _SHOWN)
    return RequestError(f"the schema is not valid: {place.pointer} is {shown}", hint=hint)
