"""A JSON schema as a document: the schemas inside it, by their places, and what `$ref` refers to.

https://json-schema.org/draft/2020-12/json-schema-core#section-8
"""

from collections import Counter
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ...errors import RequestError
from ...text import one_line
from ..budget import spend
from .references import References, Resource
from .values import canonical_value

_SHOWN = 200  # characters of a place in an error
_VALUES = frozenset({"enum", "const", "default", "examples", "example"})  # what is inside is data

# Keywords that have schemas by names.
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
_Kind = Literal["schema", "names", "unknown"]  # of what stands in a place

_KEYWORDS = frozenset(
    "type enum const properties required additionalProperties patternProperties propertyNames minProperties "
    "maxProperties items prefixItems additionalItems minItems maxItems uniqueItems contains minContains maxContains "
    "anyOf oneOf allOf not if then else dependencies dependentRequired dependentSchemas $ref $dynamicRef "
    "$recursiveRef minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern format "
    "unevaluatedProperties unevaluatedItems".split()
)


class Schema:
    """A schema inside a document. TRUE and FALSE stand for those that are valid for everything, and for nothing.

    Keywords that begin with ~ are our own, for schemas that negation makes: `~notEnum`, `~notPattern`, `~notFormat` and
    `~notMultipleOf` negate what they are named after, `~fraction` are numbers that are no integers, `~someMember` and
    `~someItem` require a member or an item of a kind, `~unevaluated…` has the schemas that evaluate what it is about.
    Schemas that are `silent` evaluate nothing.
    """

    def __init__(self, keywords: Mapping[str, Any], place: "_Place", *, silent: bool = False) -> None:
        self.keywords = keywords
        self.silent = silent
        self._place = place

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
        return any(keyword in _KEYWORDS or keyword.startswith("~") for keyword in self.keywords)

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

    def unsupported(self, what: str) -> RequestError:
        """Return the error of something in it that is not supported."""
        hint = "leave it out, or check the reply yourself"
        return RequestError(f"unsupported JSON schema: {what} at {self._place}", hint=hint)

    def invalid(self, what: str) -> RequestError:
        """Return the error of something in it that no JSON schema may have."""
        return RequestError(f"the JSON schema is not valid: {what} at {self._place}", hint="correct the schema")

    def inside(self, *path: str | int) -> "_Place":
        """Return a place inside it."""
        place = self._place
        for step in path:
            place = _Place(step, place)
        return place

    @property
    def place(self) -> "_Place":
        """Where it stands."""
        return self._place


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A place in a document, written as a JSON pointer."""

    step: str | int
    outer: "_Place | None" = None

    def __str__(self) -> str:
        steps, place = [], self
        while place.outer is not None:
            steps.append(str(place.step).replace("~", "~0").replace("/", "~1"))
            place = place.outer
        return one_line("/".join([str(place.step), *reversed(steps)]), _SHOWN)


def _inner_kind(kind: _Kind, step: str | int, outer: Any) -> _Kind:
    """Return what stands in a step of `outer`, which is of a kind. Of an unknown keyword, nothing is a schema: it is
    found by its place alone."""
    if kind == "schema" and isinstance(outer, Mapping):
        return "names" if step in _NAMED else "schema" if step in _KEYWORDS else "unknown"
    return "schema" if kind == "names" else kind


_ROOT = _Place("#")
TRUE = Schema({}, _ROOT)
FALSE = Schema({"not": {}}, _ROOT)

Conjunction = tuple[Schema, ...]
"""Schemas of which all have to hold."""


def conjunction(*schemas: Schema) -> Conjunction:
    """Return the schemas without those that say nothing; (FALSE,) where one of them is."""
    if FALSE in schemas:
        return (FALSE,)
    return tuple(dict.fromkeys(schema for schema in schemas if schema is not TRUE))


class Document:
    """A JSON schema and everything inside it."""

    def __init__(self, root: Any) -> None:
        """Raises RequestError for what is no schema."""
        self._schemas: dict[int, Schema] = {}
        self._made: dict[Hashable, Schema] = {}
        self._references = References(root)
        self._places: dict[int, tuple[_Place, Resource]] = {}  # by the ids of objects in the document
        self._dynamic = Counter[str]()  # names of dynamic anchors
        dialect = str(root.get("$schema")) if isinstance(root, Mapping) else ""
        self.is_draft_4 = any(draft in dialect for draft in ("draft-03", "draft-04"))
        self._enter(root)
        self.root = self._schema(root, _ROOT)

    def inside(self, schema: Schema, *path: str | int) -> Schema:
        """Return the schema at a path inside another."""
        value: Any = schema.keywords
        for step in path:
            value = value[step]
        return value if isinstance(value, Schema) else self._schema(value, schema.inside(*path))

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
        """Return the schema to which one refers. Raises RequestError if there is none, or it is in another document."""
        reference = schema[keyword]
        if not isinstance(reference, str):
            raise schema.invalid(f"a {keyword} that is no text")
        if keyword == "$dynamicRef" and self._dynamic[reference.rpartition("#")[2]] > 1:
            raise schema.unsupported(f"the $dynamicRef {reference}, which has several targets,")
        _, resource = self._places.get(id(schema.keywords), (_ROOT, self._references.root))
        try:
            found = self._references.resolve(reference, resource)
        except (LookupError, ValueError) as exc:
            raise schema.invalid(f"the {keyword} {reference!r}, which it does not define,") from exc
        if found is None:
            raise schema.unsupported(f"the {keyword} {reference!r} to another document")
        value, _ = found
        place, _ = self._places.get(id(value), (schema.inside(keyword), resource))
        return self._schema(value, place)

    def _schema(self, value: Any, place: _Place) -> Schema:
        if value is True or value == {}:
            return TRUE
        if value is False:
            return FALSE
        if not isinstance(value, Mapping):
            what = f"the JSON schema is not valid: {place} is neither an object nor a boolean"
            raise RequestError(what, hint="correct the schema")
        found = self._schemas.get(id(value))
        if found is None:
            found = self._schemas[id(value)] = Schema(value, place)
        return found

    def _enter(self, root: Any) -> None:
        """Note the identifiers and anchors of the schemas inside, and the place and the resource of each."""
        todo: list[tuple[Any, _Place, Resource, _Kind]] = [(root, _ROOT, self._references.root, "schema")]
        while todo:
            value, place, outer, kind = todo.pop()
            if isinstance(value, Mapping):
                resource = outer
                if kind == "schema":
                    with suppress(ValueError):  # an identifier that is no URI identifies nothing
                        resource = self._references.enter(value, outer)
                    if isinstance(name := value.get("$dynamicAnchor"), str):
                        self._dynamic[name] += 1
                self._places[id(value)] = place, resource
                inner = [(key, item) for key, item in value.items() if key not in _VALUES]
            elif isinstance(value, list):
                resource, inner = outer, list(enumerate(value))
            else:
                continue
            spend((len(inner) + 1) // 2)
            todo += [
                (item, _Place(key, place), resource, _inner_kind(kind, key, value)) for key, item in reversed(inner)
            ]
