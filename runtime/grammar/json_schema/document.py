"""A JSON schema as a document: the schemas inside it, by their places, and what `$ref` refers to.

https://json-schema.org/draft/2020-12/json-schema-core#section-8
"""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from ...errors import RequestError
from ..budget import spend
from .values import canonical_value

_DRAFTS_BEFORE_2019 = ("draft-03", "draft-04", "draft-06", "draft-07")
_VALUES = frozenset({"enum", "const", "default", "examples", "example"})  # what is inside is data

_KEYWORDS = frozenset(
    "type enum const properties required additionalProperties patternProperties propertyNames minProperties "
    "maxProperties items prefixItems additionalItems minItems maxItems uniqueItems contains minContains maxContains "
    "anyOf oneOf allOf not if then else dependencies dependentRequired dependentSchemas $ref $dynamicRef "
    "$recursiveRef minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern format "
    "unevaluatedProperties unevaluatedItems".split()
)


class Schema:
    """A schema inside a document: its keywords, and its place as a JSON pointer. TRUE and FALSE stand for those that
    are valid for everything, and for nothing.

    Keywords that begin with ~ are our own, for schemas that negation makes: `~notEnum`, `~notPattern`, `~notFormat` and
    `~notMultipleOf` negate what they are named after, `~fraction` are numbers that are no integers, `~someMember` and
    `~someItem` require a member or an item of a kind, `~unevaluated` has the schemas that evaluate what it is about.
    Schemas that are `silent` evaluate nothing.
    """

    __slots__ = ("_listed", "keywords", "place", "silent")

    def __init__(self, keywords: Mapping[str, Any], place: str, *, silent: bool = False) -> None:
        self.keywords = keywords
        self.place = place
        self.silent = silent
        self._listed: dict[str, frozenset[Any]] = {}

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    def __getitem__(self, keyword: str) -> Any:
        return self.keywords[keyword]

    def get(self, keyword: str, default: Any = None) -> Any:
        """Return the keyword's value, or the default."""
        return self.keywords.get(keyword, default)

    def lists(self, keyword: str, canonical: Any) -> bool:
        """Whether a value, in its canonical form, is among those of a keyword that lists some."""
        if keyword not in self._listed:
            self._listed[keyword] = frozenset(map(canonical_value, self.keywords[keyword]))
        return canonical in self._listed[keyword]

    @property
    def says_something(self) -> bool:
        """Whether it has a keyword other than annotations."""
        return any(keyword in _KEYWORDS or keyword.startswith("~") for keyword in self.keywords)

    def unsupported(self, what: str) -> RequestError:
        """Return the error of something in it that is not supported."""
        return RequestError(
            f"unsupported JSON schema: {what} at {self.place}", hint="leave it out, or check the reply yourself"
        )

    def invalid(self, what: str) -> RequestError:
        """Return the error of something in it that no JSON schema may have."""
        return RequestError(f"the JSON schema is not valid: {what} at {self.place}", hint="correct the schema")


TRUE = Schema({}, "#")
FALSE = Schema({"not": {}}, "#")

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
        self._root = root
        self._schemas: dict[str, Schema] = {}
        self._made: dict[Hashable, Schema] = {}
        self._bases: dict[int, str] = {}
        self._resources: dict[str, tuple[Any, str]] = {}
        self._anchors: dict[str, tuple[Any, str]] = {}
        self._dynamic: dict[str, list[tuple[Any, str]]] = {}
        dialect = str(root.get("$schema")) if isinstance(root, Mapping) else ""
        self.is_draft_4 = any(draft in dialect for draft in ("draft-03", "draft-04"))
        self.ignores_siblings = any(draft in dialect for draft in _DRAFTS_BEFORE_2019)
        self._index()
        self.root = self._schema(root, "#")

    def inside(self, schema: Schema, *path: str | int) -> Schema:
        """Return the schema at a path inside another."""
        value: Any = schema.keywords
        for step in path:
            value = value[step]
        place = schema.place + "".join(f"/{_escape(step)}" for step in path)
        return value if isinstance(value, Schema) else self._schema(value, place)

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
        if keyword == "$dynamicRef" and len(self._dynamic.get(reference.removeprefix("#"), ())) > 1:
            raise schema.unsupported(f"the $dynamicRef {reference}, which has several targets")
        base = self._bases.get(id(schema.keywords), "")
        uri, fragment = urldefrag(urljoin(base, reference))
        if uri not in self._resources:
            if reference in self._anchors:
                return self._schema(*self._anchors[reference])
            raise schema.unsupported(f"the {keyword} {reference!r} to another document")
        resource, place = self._resources[uri]
        if fragment and not fragment.startswith("/"):
            if (anchor := f"{uri}#{fragment}") not in self._anchors:
                raise schema.invalid(f"the {keyword} {reference!r}, which it does not define,")
            return self._schema(*self._anchors[anchor])
        for step in unquote(fragment).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            try:
                resource = resource[int(key)] if isinstance(resource, list) else resource[key]
            except (KeyError, IndexError, ValueError, TypeError):
                if step == "" and resource is self._root:
                    break
                raise schema.invalid(f"the {keyword} {reference!r}, which it does not define,") from None
            place += f"/{step}"
        return self._schema(resource, place)

    def _schema(self, value: Any, place: str) -> Schema:
        if value is True or value == {}:
            return TRUE
        if value is False:
            return FALSE
        if not isinstance(value, Mapping):
            raise RequestError(
                f"the JSON schema is not valid: {place} is neither an object nor a boolean", hint="correct the schema"
            )
        found = self._schemas.get(place)
        if found is None or found.keywords is not value:
            found = self._schemas[place] = Schema(value, place)
        return found

    def _index(self) -> None:
        """Note the identifiers and anchors of the schemas inside, and the base to which each refers."""
        self._resources[""] = self._root, "#"
        for value, place, base in self._walk():
            identifier = value.get("$id", value.get("id"))
            if isinstance(identifier, str) and identifier.startswith("#"):
                self._anchors[f"{base}{identifier}"] = value, place
            for keyword in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := value.get(keyword), str):
                    self._anchors[f"{base}#{name}"] = value, place
                    if keyword == "$dynamicAnchor":
                        self._dynamic.setdefault(name, []).append((value, place))
            self._bases[id(value)] = base
            if base not in self._resources:
                self._resources[base] = value, place

    def _walk(self) -> Iterator[tuple[Mapping[str, Any], str, str]]:
        """Yield every object with its place and its base, from the outside to the inside."""
        todo: list[tuple[Any, str, str]] = [(self._root, "#", "")]
        while todo:
            value, place, base = todo.pop()
            if isinstance(value, Mapping):
                identifier = value.get("$id", value.get("id"))
                if isinstance(identifier, str) and not identifier.startswith("#") and place[-10:] != "properties":
                    base = urldefrag(urljoin(base, identifier)).url
                yield value, place, base
                inner = [(key, item) for key, item in value.items() if key not in _VALUES]
            elif isinstance(value, list):
                inner = list(enumerate(value))
            else:
                continue
            spend(len(place) // 1000)  # deep inside, places are long
            todo += [(item, f"{place}/{_escape(key)}", base) for key, item in reversed(inner)]


def _escape(step: str | int) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")
