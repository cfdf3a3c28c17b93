"""A JSON schema as a document: the schemas inside it, by their places, and what `$ref` refers to.

https://json-schema.org/draft/2020-12/json-schema-core#section-8
"""

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from ...errors import RequestError
from .keywords import KEYWORDS
from .references import Place, Resource
from .validity import check_valid
from .values import canonical_value

_SAY_NOTHING = frozenset({"$defs", "definitions"})


class UnsupportedSchema(RequestError):
    """What is not supported in a schema, with its place."""


class Schema:
    """A schema inside a document. TRUE and FALSE stand for those that are valid for everything, and for nothing.

    Keywords that begin with ~ are our own, for schemas that negation makes: `~notEnum`, `~notPattern`, `~notFormat` and
    `~notMultipleOf` negate what they are named after, `~fraction` are numbers that are no integers, `~someMember` and
    `~someItem` require a member or an item of a kind, `~unevaluated…` has the schemas that evaluate what it is about.
    Schemas that are `silent` evaluate nothing.
    """

    def __init__(self, keywords: Mapping[str, Any], place: Place, *, silent: bool = False) -> None:
        self.keywords = keywords
        self.silent = silent
        self.place = place

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    def __getitem__(self, keyword: str) -> Any:
        return self.keywords[keyword]

    def get(self, keyword: str, default: Any = None) -> Any:
        """Return the keyword's value, or the default."""
        return self.keywords.get(keyword, default)

    @cached_property
    def says_something(self) -> bool:
        """Whether it has a keyword other than annotations."""
        return any(
            (keyword in KEYWORDS and keyword not in _SAY_NOTHING) or keyword.startswith("~")
            for keyword in self.keywords
        )

    @cached_property
    def listed(self) -> frozenset[Any] | None:
        """The values of `enum` or `const`, as `canonical_value` makes them; None if it has neither."""
        found = [frozenset(map(canonical_value, self["enum"]))] if "enum" in self else []
        if "const" in self:
            found.append(frozenset([canonical_value(self["const"])]))
        return frozenset.intersection(*found) if found else None

    @cached_property
    def excluded(self) -> frozenset[Any]:
        """The values that it must not have."""
        return frozenset(map(canonical_value, self.get("~notEnum", ())))

    @contextmanager
    def placing_errors(self) -> Iterator[None]:
        """Give a RequestError that is raised inside the place of this schema. It becomes UnsupportedSchema."""
        try:
            yield
        except UnsupportedSchema:
            raise
        except RequestError as exc:
            raise self.unsupported(str(exc)) from exc

    def unsupported(self, what: str) -> UnsupportedSchema:
        """Return the error of something in it that is not supported."""
        hint = "leave it out, or check the reply yourself"
        return UnsupportedSchema(f"unsupported JSON schema: {what} at {self.place}", hint=hint)


_ROOT = Place("#", Resource("", None))
TRUE = Schema({}, _ROOT)
FALSE = Schema({"not": {}}, _ROOT)

Conjunction = tuple[Schema, ...]
"""Schemas of which all have to hold."""


def conjunction(*schemas: Schema) -> Conjunction:
    """Return the schemas without those that say nothing; (FALSE,) where one of them is."""
    if FALSE in schemas:
        return (FALSE,)
    return tuple(dict.fromkeys(schema for schema in schemas if schema is not TRUE))


class SchemaDocument:
    """A JSON schema and everything inside it."""

    def __init__(self, root: Any) -> None:
        """Raises RequestError for what is no schema."""
        valid = check_valid(root)
        self._references, self._places = valid.references, valid.places
        self._schemas: dict[int, Schema] = {}
        self._made: dict[Hashable, Schema] = {}
        self._nullable = "$schema" not in valid.keywords  # of OpenAPI; in JSON Schema it is an annotation
        self.has_unevaluated = not valid.keywords.isdisjoint(("unevaluatedProperties", "unevaluatedItems"))
        self.root = self._schema(root, Place("#", self._references.root))

    def inside(self, schema: Schema, *path: str | int) -> Schema:
        """Return the schema at a path inside another."""
        value: Any = schema.keywords
        for step in path:
            value = value[step]
        return value if isinstance(value, Schema) else self._schema(value, schema.place.inside(*path))

    def make(self, key: Hashable, keywords: Mapping[str, Any], source: Schema, *, silent: bool = False) -> Schema:
        """Return a schema of our own that stems from another; the same one for equal keys."""
        if key not in self._made:
            self._made[key] = Schema(keywords, source.place, silent=silent)
        return self._made[key]

    def negate(self, schema: Schema) -> Schema:
        """Return a schema that holds where this one does not."""
        if schema is TRUE or schema is FALSE:
            return FALSE if schema is TRUE else TRUE
        return self.make((schema, "negated"), {"not": schema}, schema, silent=True)

    def resolve(self, schema: Schema, keyword: str = "$ref") -> Schema:
        """Return the schema to which one refers. Raises RequestError for a target in
        another document, or one that depends on the schemas around."""
        reference = schema[keyword]
        if self._references.is_dynamic(keyword, reference):
            raise schema.unsupported(f"the {keyword} {reference}, which has several targets,")
        found = self._references.resolve(reference, schema.place.resource)
        if found is None:
            raise schema.unsupported(f"the {keyword} {reference!r} to another document")
        value, resource = found
        return self._schema(value, Place(reference, resource))

    def _schema(self, value: Any, place: Place) -> Schema:
        """Return the schema that an object or a boolean is."""
        if value is True or value == {}:
            return TRUE
        if value is False:
            return FALSE
        found = self._schemas.get(id(value))
        if found is None:
            keywords = value
            if value.get("nullable") is True and "type" in value and self._nullable:
                names = value["type"]
                keywords = {**value, "type": ["null", *([names] if isinstance(names, str) else names)]}
            found = self._schemas[id(value)] = Schema(keywords, self._places.get(id(value), place))
        return found
