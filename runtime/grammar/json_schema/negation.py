"""The complement of a schema, as conjunctions of schemas of which one has to hold."""

from collections.abc import Callable
from itertools import combinations, product
from math import prod
from typing import Any

from ..regular.formats import UNSUPPORTED, format_language
from .document import FALSE, TRUE, Conjunction, Schema, SchemaDocument, conjunction
from .numbers import types
from .values import canonical_value

_MOST = 200


class Negation:
    """Negates the schemas of a document."""

    def __init__(self, document: SchemaDocument) -> None:
        self._document = document
        self._found: dict[Schema, list[Conjunction]] = {}
        self._opened: set[Schema] = set()

    def of(self, schema: Schema) -> list[Conjunction]:
        """Return what holds where the schema does not. Raises RequestError where that is not supported."""
        if schema is TRUE:
            return []
        if schema is FALSE:
            return [()]
        if schema in self._opened:
            raise schema.unsupported("not, oneOf or if around a $ref that leads back to itself")
        if schema not in self._found:
            self._opened.add(schema)
            found = [
                one
                for keyword in schema.keywords
                if (negate := _NEGATIONS.get(keyword)) is not None
                for one in negate(self, schema, schema[keyword])
            ]
            for keyword in schema.keywords:
                if keyword in _UNSUPPORTED:
                    raise schema.unsupported(f"{keyword} inside not, oneOf or if")
            self._opened.discard(schema)
            self._found[schema] = [one for one in found if FALSE not in one]
        return self._found[schema]

    def _make(self, schema: Schema, key: Any, **keywords: Any) -> Conjunction:
        return (self._document.make((schema, "not", key), keywords, schema, silent=True),)

    def _inside(self, schema: Schema, *path: str | int) -> Schema:
        return self._document.negate(self._document.inside(schema, *path))

    def _positive(self, schema: Schema, *schemas: Schema) -> Conjunction:
        """Return schemas that hold inside of a negation, where they evaluate nothing."""
        if self._document.has_unevaluated:
            raise schema.unsupported("not, oneOf or if inside of one another, beside unevaluated…,")
        return conjunction(*schemas)

    def _type(self, schema: Schema, value: Any) -> list[Conjunction]:
        names = types(schema)
        left = [name for name in ("null", "boolean", "number", "string", "array", "object") if name not in names]
        if "integer" in names and "number" in left:
            left.remove("number")
            fraction = self._document.make((schema, "fraction"), {"type": "number", "~fraction": True}, schema)
            return [(fraction,), *([self._make(schema, "type", type=left)] if left else [])]
        return [self._make(schema, "type", type=left)] if left else []

    def _enum(self, schema: Schema, value: Any) -> list[Conjunction]:
        return self._excluding(schema, "enum", value)

    def _const(self, schema: Schema, value: Any) -> list[Conjunction]:
        return self._excluding(schema, "const", [value])

    def _excluding(self, schema: Schema, keyword: str, values: list[Any]) -> list[Conjunction]:
        """Return what holds of every other value. Objects and arrays are excluded by what is inside them."""
        kinds = [self._of_value(schema, value) for value in values if isinstance(value, dict | list)]
        others = self._made(schema, keyword, {"~notEnum": values})
        return [conjunction(*others, *one) for one in self._none_of(schema, kinds)]

    def _of_value(self, schema: Schema, value: dict[str, Any] | list[Any]) -> Schema:
        """Return the schema of an object or an array by its parts."""
        parts: dict[str, Any]
        if isinstance(value, dict):
            properties = {name: {"const": part} for name, part in value.items()}
            parts = {"required": list(value), "properties": properties, "additionalProperties": False}
        else:
            parts = {"minItems": len(value), "prefixItems": [{"const": part} for part in value], "items": False}
        kind = "object" if isinstance(value, dict) else "array"
        return self._document.make((schema, canonical_value(value)), {"type": kind, **parts}, schema, silent=True)

    def _format(self, schema: Schema, value: Any) -> list[Conjunction]:
        if value not in UNSUPPORTED and format_language(value) is None:
            return []  # an annotation, which holds for everything
        return [self._made(schema, "format", {"type": "string", "~notFormat": value})]

    def _made(self, schema: Schema, key: Any, keywords: dict[str, Any]) -> Conjunction:
        return (self._document.make((schema, "not", key), keywords, schema, silent=True),)

    def _all_of(self, schema: Schema, value: Any) -> list[Conjunction]:
        return [one for index in range(len(value)) for one in self.of(self._document.inside(schema, "allOf", index))]

    def _any_of(self, schema: Schema, value: Any) -> list[Conjunction]:
        return self._none_of(schema, [self._document.inside(schema, "anyOf", index) for index in range(len(value))])

    def _one_of(self, schema: Schema, value: Any) -> list[Conjunction]:
        branches = [self._document.inside(schema, "oneOf", index) for index in range(len(value))]
        return [
            *self._none_of(schema, branches),
            *(self._positive(schema, *pair) for pair in combinations(branches, 2)),
        ]

    def _none_of(self, schema: Schema, branches: list[Schema]) -> list[Conjunction]:
        negated = [self.of(branch) for branch in branches]
        if prod(map(len, negated)) > _MOST:
            raise schema.unsupported("not, oneOf or if with too many alternatives")
        return [conjunction(*(schema for one in ones for schema in one)) for ones in product(*negated)]

    def _not(self, schema: Schema, value: Any) -> list[Conjunction]:
        return [self._positive(schema, self._document.inside(schema, "not"))]

    def _if(self, schema: Schema, value: Any) -> list[Conjunction]:
        condition = self._document.inside(schema, "if")
        found = []
        if "then" in schema:
            found.append(self._positive(schema, condition, self._inside(schema, "then")))
        if "else" in schema:
            found.append(conjunction(self._document.negate(condition), self._inside(schema, "else")))
        return found

    def _ref(self, schema: Schema, value: Any) -> list[Conjunction]:
        return self.of(self._document.resolve(schema))

    def _required(self, schema: Schema, value: Any) -> list[Conjunction]:
        return [self._make(schema, ("required", name), type="object", properties={name: False}) for name in value]

    def _properties(self, schema: Schema, value: Any) -> list[Conjunction]:
        return [
            self._make(
                schema,
                ("properties", name),
                type="object",
                required=[name],
                properties={name: self._inside(schema, "properties", name)},
            )
            for name in value
        ]

    def _pattern_properties(self, schema: Schema, value: Any) -> list[Conjunction]:
        return [
            self._some(schema, "~someMember", ("pattern", pattern), self._inside(schema, "patternProperties", pattern))
            for pattern in value
        ]

    def _additional_properties(self, schema: Schema, value: Any) -> list[Conjunction]:
        return [self._some(schema, "~someMember", ("additional",), self._inside(schema, "additionalProperties"))]

    def _property_names(self, schema: Schema, value: Any) -> list[Conjunction]:
        return [self._some(schema, "~someMember", ("names",), TRUE)]

    def _items(self, schema: Schema, value: Any) -> list[Conjunction]:
        if isinstance(value, list):
            return [self._item(schema, "items", index) for index in range(len(value))]
        start = len(schema.get("prefixItems", ()))
        return [self._some(schema, "~someItem", start, self._inside(schema, "items"))]

    def _prefix_items(self, schema: Schema, value: Any) -> list[Conjunction]:
        return [self._item(schema, "prefixItems", index) for index in range(len(value))]

    def _additional_items(self, schema: Schema, value: Any) -> list[Conjunction]:
        items = schema.get("items")
        if not isinstance(items, list):
            return []
        return [self._some(schema, "~someItem", len(items), self._inside(schema, "additionalItems"))]

    def _item(self, schema: Schema, keyword: str, index: int) -> Conjunction:
        items = [True] * index + [self._inside(schema, keyword, index)]
        return self._make(schema, (keyword, index), type="array", minItems=index + 1, prefixItems=items)

    def _some(self, schema: Schema, keyword: str, which: Any, value: Schema) -> Conjunction:
        if value is FALSE:
            return (FALSE,)
        kind = "array" if keyword == "~someItem" else "object"
        return self._made(schema, (keyword, which), {"type": kind, keyword: (schema, which, value)})

    def _contains(self, schema: Schema, value: Any) -> list[Conjunction]:
        least, most = schema.get("minContains", 1), schema.get("maxContains")
        wanted = self._document.inside(schema, "contains")
        found = []
        if least:
            keywords = {"contains": wanted, "minContains": 0, "maxContains": least - 1}
            found.append(self._make(schema, "minContains", type="array", **keywords))
        if most is not None:
            found.append(self._make(schema, "maxContains", type="array", contains=wanted, minContains=most + 1))
        return found

    def _dependent_required(self, schema: Schema, value: Any) -> list[Conjunction]:
        found = []
        for name, dependent in value.items():
            for other in [dependent] if isinstance(dependent, str) else dependent:
                keywords = {"type": "object", "required": [name], "properties": {other: False}}
                found.append(self._make(schema, ("dependent", name, other), **keywords))
        return found

    def _dependent_schemas(self, schema: Schema, value: Any, keyword: str = "dependentSchemas") -> list[Conjunction]:
        return [
            conjunction(
                *self._make(schema, ("dependent", name), type="object", required=[name]),
                self._inside(schema, keyword, name),
            )
            for name in value
        ]

    def _dependencies(self, schema: Schema, value: Any) -> list[Conjunction]:
        lists = {name: one for name, one in value.items() if isinstance(one, list | str)}
        schemas = {name: one for name, one in value.items() if name not in lists}
        return [
            *self._dependent_required(schema, lists),
            *self._dependent_schemas(schema, schemas, "dependencies"),
        ]


def _below(kind: str, keyword: str) -> Callable[[Negation, Schema, Any], list[Conjunction]]:
    """Negate a least count by a most count that is less."""

    def negate(self: Negation, schema: Schema, value: Any) -> list[Conjunction]:
        return [self._make(schema, keyword, **{"type": kind, keyword: int(value) - 1})] if value > 0 else []

    return negate


def _above(kind: str, keyword: str) -> Callable[[Negation, Schema, Any], list[Conjunction]]:
    """Negate a most count by a least count that is more."""

    def negate(self: Negation, schema: Schema, value: Any) -> list[Conjunction]:
        return [self._make(schema, keyword, **{"type": kind, keyword: int(value) + 1})]

    return negate


def _bound(keyword: str, other: str, draft_4: str) -> Callable[[Negation, Schema, Any], list[Conjunction]]:
    """Negate a bound by the opposite one."""

    def negate(self: Negation, schema: Schema, value: Any) -> list[Conjunction]:
        if isinstance(value, bool):  # draft 4's exclusiveMinimum belongs to minimum
            return []
        used = draft_4 if schema.get(_EXCLUSIVE.get(keyword, "")) is True else other
        return [self._make(schema, keyword, type="number", **{used: value})]

    return negate


def _our_own(kind: str, keyword: str) -> Callable[[Negation, Schema, Any], list[Conjunction]]:
    """Negate a keyword by one of our own."""

    def negate(self: Negation, schema: Schema, value: Any) -> list[Conjunction]:
        return [self._made(schema, keyword, {"type": kind, keyword: value})]

    return negate


_EXCLUSIVE = {"minimum": "exclusiveMinimum", "maximum": "exclusiveMaximum"}
_NEGATIONS: dict[str, Callable[[Negation, Schema, Any], list[Conjunction]]] = {
    "type": Negation._type,
    "enum": Negation._enum,
    "const": Negation._const,
    "allOf": Negation._all_of,
    "anyOf": Negation._any_of,
    "oneOf": Negation._one_of,
    "not": Negation._not,
    "if": Negation._if,
    "$ref": Negation._ref,
    "required": Negation._required,
    "properties": Negation._properties,
    "patternProperties": Negation._pattern_properties,
    "additionalProperties": Negation._additional_properties,
    "propertyNames": Negation._property_names,
    "items": Negation._items,
    "prefixItems": Negation._prefix_items,
    "additionalItems": Negation._additional_items,
    "contains": Negation._contains,
    "dependentRequired": Negation._dependent_required,
    "dependentSchemas": Negation._dependent_schemas,
    "dependencies": Negation._dependencies,
    "minLength": _below("string", "maxLength"),
    "maxLength": _above("string", "minLength"),
    "minItems": _below("array", "maxItems"),
    "maxItems": _above("array", "minItems"),
    "minProperties": _below("object", "maxProperties"),
    "maxProperties": _above("object", "minProperties"),
    "minimum": _bound("minimum", "exclusiveMaximum", "maximum"),
    "maximum": _bound("maximum", "exclusiveMinimum", "minimum"),
    "exclusiveMinimum": _bound("exclusiveMinimum", "maximum", ""),
    "exclusiveMaximum": _bound("exclusiveMaximum", "minimum", ""),
    "pattern": _our_own("string", "~notPattern"),
    "format": Negation._format,
    "multipleOf": _our_own("number", "~notMultipleOf"),
}
_UNSUPPORTED = frozenset({"uniqueItems", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"})
