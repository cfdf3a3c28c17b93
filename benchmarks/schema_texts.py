"""JSON texts of a schema's instances, with their keys in the order in which a grammar writes them.

A grammar writes an object's properties in the schema's order: those of the schema itself, then of the schemas that
apply beside it (`$ref`, `allOf`, the valid branch of `anyOf` or `oneOf`, `if` and `then`, `dependentSchemas`), then
names that are only required, or that depend on others, then the rest in any order.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import jsonschema.validators
from jsonschema.exceptions import SchemaError, UndefinedTypeCheck, UnknownType
from referencing import Registry, Resource
from referencing.exceptions import CannotDetermineSpecification, Unresolvable
from referencing.jsonschema import DRAFT202012

_DEPTH = 100  # of the instance; deeper ones keep their order
_STYLES: tuple[tuple[str, str], ...] = ((", ", ": "), (",", ":"))  # what a model writes, and what is shortest


def dump(instance: Any) -> tuple[str, ...]:
    """Return the instance as JSON, with blanks after its separators and without."""
    texts = tuple(json.dumps(instance, ensure_ascii=False, separators=style) for style in _STYLES)
    if any("\ud800" <= char <= "\udfff" for char in texts[0]):  # no text of a model has a lone surrogate
        return tuple(json.dumps(instance, separators=style) for style in _STYLES)
    return texts


def equal(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal: 1 is 1.0, but no boolean is a number."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


class SchemaOrder:
    """The order of keys that a schema prescribes for its instances."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        draft = jsonschema.validators.validator_for(schema, default=jsonschema.validators.Draft202012Validator)
        self._validator = draft(schema)
        resource = DRAFT202012.create_resource(schema)
        with suppress(CannotDetermineSpecification):
            resource = Resource.from_contents(schema, default_specification=DRAFT202012)
        self._resolver: Any = Registry().with_resource("", resource).resolver()

    def texts(self, instance: Any) -> tuple[str, ...]:
        """Return the instance as JSON in the schema's order, with blanks after its separators and without."""
        return dump(self.arrange(instance))

    def arrange(self, instance: Any) -> Any:
        """Return the instance with the keys of every object in the schema's order."""
        return self._arrange(instance, [self.schema], 0)

    def _arrange(self, instance: Any, schemas: list[Any], depth: int) -> Any:
        if depth > _DEPTH or not isinstance(instance, dict | list):
            return instance
        applying = [each for schema in schemas for each in self._applying(schema, instance, ())]
        for schema in applying:  # a constant is written as the schema has it
            for value in [*_listed(schema, "enum"), *([schema["const"]] if "const" in schema else [])]:
                if equal(value, instance):
                    return value
        if isinstance(instance, list):
            return [
                self._arrange(item, [_item_schema(schema, index) for schema in applying], depth + 1)
                for index, item in enumerate(instance)
            ]
        declared = [name for schema in applying for name in _mapped(schema, "properties")]
        required = [
            name for schema in applying for name in (*_listed(schema, "required"), *_dependent(schema, instance))
        ]
        return {
            name: self._arrange(
                instance[name], [each for schema in applying for each in _member_schemas(schema, name)], depth + 1
            )
            for name in dict.fromkeys([*declared, *required, *instance])
            if name in instance
        }

    def _applying(self, schema: Any, instance: Any, parents: tuple[int, ...]) -> Iterator[dict[str, Any]]:
        """Yield the schema and those that apply to the same instance beside it, in their order."""
        if not isinstance(schema, dict) or id(schema) in parents:
            return
        yield schema
        for part in self._parts(schema, instance):
            yield from self._applying(part, instance, (*parents, id(schema)))

    def _parts(self, schema: dict[str, Any], instance: Any) -> Iterator[Any]:
        if isinstance(schema.get("$ref"), str):
            with suppress(Unresolvable):
                yield self._resolver.lookup(schema["$ref"]).contents
        yield from _listed(schema, "allOf")
        for keyword in ("anyOf", "oneOf"):
            yield from [branch for branch in _listed(schema, keyword) if self._is_valid(branch, instance)][:1]
        if "if" in schema:
            yield from (
                (schema["if"], schema.get("then")) if self._is_valid(schema["if"], instance) else (schema.get("else"),)
            )
        for keyword in ("dependencies", "dependentSchemas"):
            yield from (part for name, part in _mapped(schema, keyword).items() if name in instance)

    def _is_valid(self, schema: Any, instance: Any) -> bool:
        with suppress(SchemaError, UnknownType, UndefinedTypeCheck, Unresolvable, re.error, RecursionError, TypeError):
            return bool(self._validator.evolve(schema=schema).is_valid(instance))
        return False


def _listed(schema: dict[str, Any], keyword: str) -> list[Any]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def _mapped(schema: dict[str, Any], keyword: str) -> dict[str, Any]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def _dependent(schema: dict[str, Any], instance: dict[str, Any]) -> Iterator[str]:
    """Yield the names that depend on one another, each after the one that needs it."""
    for keyword in ("dependencies", "dependentRequired"):
        for name, needed in _mapped(schema, keyword).items():
            if name in instance:
                yield from (name, *(needed if isinstance(needed, list) else ()))


def _item_schema(schema: dict[str, Any], index: int) -> Any:
    first = _listed(schema, "prefixItems") or _listed(schema, "items")
    if index < len(first):
        return first[index]
    return schema.get("additionalItems" if isinstance(schema.get("items"), list) else "items")


def _member_schemas(schema: dict[str, Any], name: str) -> list[Any]:
    found = [_mapped(schema, "properties")[name]] if name in _mapped(schema, "properties") else []
    for pattern, part in _mapped(schema, "patternProperties").items():
        with suppress(re.error):
            found += [part] if re.search(pattern, name) else []
    return found or [schema.get("additionalProperties")]
