"""The keywords of JSON Schema, drafts 4 to 2020-12: the form of each one's value, and the parts inside that have forms
of their own. Where drafts differ, the form of each is valid. Annotations are not listed: they constrain nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ..regular.regex_check import is_regex

Part = tuple[str, Any, "Form"]  # its name or index in the value, itself, its form


def _no_parts(_: Any) -> Iterator[Part]:
    return iter(())


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a value: in words, as a test, and the parts of a value that passes it. An object in the place of a
    `schema` is one."""

    wanted: str
    matches: Callable[[Any], bool]
    parts: Callable[[Any], Iterator[Part]] = _no_parts
    schema: bool = False


def _is_number(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and isfinite(value))


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value) and len(set(value)) == len(value)


_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")


def _is_type(value: Any) -> bool:
    names = value if isinstance(value, list) and value else [value]
    return _is_strings(names) and set(names) <= set(_TYPES)


def _is_regex(value: Any) -> bool:
    return isinstance(value, str) and is_regex(value)


def _schema_parts(schema: Any) -> Iterator[Part]:
    if isinstance(schema, Mapping):
        yield from ((key, value, KEYWORDS[key]) for key, value in schema.items() if key in KEYWORDS)


def _each(form: Form) -> Callable[[Any], Iterator[Part]]:
    """The parts of an object or a list, all of one form."""

    def parts(value: Any) -> Iterator[Part]:
        items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        return ((str(key), item, form) for key, item in items)

    return parts


def _is_schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool)


SCHEMA = Form("a schema: an object, true or false", _is_schema, _schema_parts, schema=True)

REFERENCE = Form("a string", lambda value: isinstance(value, str))

_ANYTHING = Form("any value", lambda value: True)
_BOOLEAN = Form("true or false", lambda value: isinstance(value, bool))
_COUNT = Form("a whole number of 0 or more", _is_count)
_NUMBER = Form("a number", _is_number)
_POSITIVE = Form("a number above 0", lambda value: _is_number(value) and value > 0)
_EXCLUSIVE = Form("a number (in draft 4, true or false)", lambda value: _is_number(value) or isinstance(value, bool))
_TEXT = Form("a string", lambda value: isinstance(value, str))
_REGEX = Form("a valid regular expression", _is_regex)
_TYPE = Form(f"one of {', '.join(_TYPES)}, or a list of some of them", _is_type)
_ENUM = Form("a list of at least one value", lambda value: isinstance(value, list) and bool(value))
_STRINGS = Form("a list of strings, each of them once", _is_strings)
_SCHEMAS = Form("a list of at least one schema", lambda value: isinstance(value, list) and bool(value), _each(SCHEMA))
_ITEMS = Form(
    "a schema (before draft 2020-12, or a list of schemas)",
    lambda value: _is_schema(value) or (isinstance(value, list) and bool(value)),
    lambda value: _each(SCHEMA)(value) if isinstance(value, list) else _schema_parts(value),
    schema=True,
)
_DEPENDENCY = Form(
    "a schema, or a list of strings, each of them once",
    lambda value: _is_schema(value) or _is_strings(value),
    _schema_parts,
    schema=True,
)


def _mapping(form: Form, of: str) -> Form:
    return Form(f"an object of {of}", lambda value: isinstance(value, Mapping), _each(form))


def _pattern_parts(value: Mapping[str, Any]) -> Iterator[Part]:
    for pattern, schema in value.items():
        yield pattern, pattern, _REGEX
        yield pattern, schema, SCHEMA


_NAMED_SCHEMAS = _mapping(SCHEMA, "schemas")
_PATTERNS = Form(
    "an object of schemas, their names regular expressions", lambda value: isinstance(value, Mapping), _pattern_parts
)

KEYWORDS: Mapping[str, Form] = {
    "$ref": REFERENCE, "$dynamicRef": REFERENCE, "$recursiveRef": REFERENCE,
    "$defs": _NAMED_SCHEMAS, "definitions": _NAMED_SCHEMAS,
    "type": _TYPE, "enum": _ENUM, "const": _ANYTHING, "format": _TEXT,
    "allOf": _SCHEMAS, "anyOf": _SCHEMAS, "oneOf": _SCHEMAS, "not": SCHEMA,
    "if": SCHEMA, "then": SCHEMA, "else": SCHEMA,
    "minimum": _NUMBER, "maximum": _NUMBER, "exclusiveMinimum": _EXCLUSIVE, "exclusiveMaximum": _EXCLUSIVE,
    "multipleOf": _POSITIVE,
    "minLength": _COUNT, "maxLength": _COUNT, "pattern": _REGEX,
    "items": _ITEMS, "prefixItems": _SCHEMAS, "additionalItems": SCHEMA, "unevaluatedItems": SCHEMA,
    "minItems": _COUNT, "maxItems": _COUNT, "uniqueItems": _BOOLEAN,
    "contains": SCHEMA, "minContains": _COUNT, "maxContains": _COUNT,
    "properties": _NAMED_SCHEMAS, "patternProperties": _PATTERNS, "additionalProperties": SCHEMA,
    "unevaluatedProperties": SCHEMA, "propertyNames": SCHEMA, "required": _STRINGS,
    "minProperties": _COUNT, "maxProperties": _COUNT,
    "dependencies": _mapping(_DEPENDENCY, "schemas or lists of strings"),
    "dependentRequired": _mapping(_STRINGS, "lists of strings"), "dependentSchemas": _NAMED_SCHEMAS,
}  # fmt: skip
