"""Conjunctions of schemas as alternatives without `$ref`, `anyOf`, `if` and the like: what each says is then merged by
type.

An alternative holds if all of its schemas do, read without those keywords; a conjunction, if one of its alternatives
does.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import combinations

from ...errors import RequestError
from ..budget import spend
from .document import FALSE, TRUE, Conjunction, Schema, SchemaDocument, conjunction
from .negation import Negation
from .numbers import types

_MOST = 300
_MOST_CROSSED = 3000
_MOST_TOGETHER = 4  # branches of anyOf that are combined


class Alternatives:
    """The alternatives of conjunctions, each found once."""

    def __init__(self, document: SchemaDocument, is_empty: Callable[[Conjunction, Schema], bool]) -> None:
        self._document = document
        self._negation = Negation(document)
        self._is_empty = is_empty
        self._found: dict[Hashable, list[Conjunction]] = {}

    def of(self, schemas: Conjunction, opened: tuple[Schema, ...] = ()) -> list[Conjunction]:
        """Return the alternatives of a conjunction. Raises RequestError for what is not supported, or too many."""
        if schemas not in self._found:
            alternatives: list[Conjunction] = [()]
            for schema in schemas:
                alternatives = self._cross(alternatives, self._of_one(schema, opened), schema)
            self._found[schemas] = alternatives
        return self._found[schemas]

    def _of_any(self, conjunctions: Iterable[Conjunction], opened: tuple[Schema, ...]) -> list[Conjunction]:
        return list(dict.fromkeys(found for schemas in conjunctions for found in self.of(schemas, opened)))

    def _cross(self, left: list[Conjunction], right: list[Conjunction], schema: Schema) -> list[Conjunction]:
        if right == [()]:
            return left
        schemas = sum(map(len, left)) * len(right) + sum(map(len, right)) * len(left)
        spend(len(left) * len(right) + schemas // 8)
        if len(left) * len(right) > _MOST_CROSSED:
            raise schema.unsupported("too many alternatives")
        crossed = dict.fromkeys(conjunction(*one, *other) for one in left for other in right)
        found = [alternative for alternative in crossed if common_types(alternative)]
        if len(found) > _MOST:
            raise schema.unsupported("too many alternatives")
        return found

    def _of_one(self, schema: Schema, opened: tuple[Schema, ...]) -> list[Conjunction]:
        if schema is FALSE:
            return []
        if schema in opened:
            raise schema.unsupported("a $ref that leads back to itself")
        if schema not in self._found:
            self._found[schema] = self._expand(schema, (*opened, schema))
        return self._found[schema]

    def _expand(self, schema: Schema, opened: tuple[Schema, ...]) -> list[Conjunction]:
        """Return the alternatives of one schema: its own keywords, with those of one branch of each applicator."""
        spend(3)
        found: list[Conjunction] = [(schema,)]
        for branches in self._branches(schema, opened):
            found = self._cross(found, self._of_any(branches, opened), schema)
        for keyword in ("unevaluatedProperties", "unevaluatedItems"):
            if keyword in schema:
                found = [
                    conjunction(*alternative, self._unevaluated(schema, keyword, alternative)) for alternative in found
                ]
        return found

    def _branches(self, schema: Schema, opened: tuple[Schema, ...]) -> Iterator[list[Conjunction]]:
        """Yield for each applicator the conjunctions of which one has to hold."""
        inside = self._document.inside
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            if keyword in schema:
                yield [(self._document.resolve(schema, keyword),)]
        for index in range(len(schema.get("allOf", ()))):
            yield [conjunction(inside(schema, "allOf", index))]
        if "anyOf" in schema:
            yield self._any(schema)
        if "oneOf" in schema:
            yield list(self._exactly_one(schema, opened))
        if "not" in schema:
            yield self._negation.of(inside(schema, "not"))
        if "if" in schema and ("then" in schema or "else" in schema or self._document.has_unevaluated):
            condition = inside(schema, "if")
            then = inside(schema, "then") if "then" in schema else TRUE
            otherwise = inside(schema, "else") if "else" in schema else TRUE
            yield [
                conjunction(condition, then),
                *(conjunction(*negated, otherwise) for negated in self._negation.of(condition)),
            ]
        for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
            for name in schema.get(keyword) or ():
                yield self._dependency(schema, keyword, name)

    def _any(self, schema: Schema) -> list[Conjunction]:
        """Return the branches of anyOf; where it matters which of them evaluate members, their combinations, too."""
        branches = [self._document.inside(schema, "anyOf", index) for index in range(len(schema["anyOf"]))]
        together = len(branches) if self._document.has_unevaluated and len(branches) <= _MOST_TOGETHER else 1
        sizes = range(1, together + 1)
        return [conjunction(*some) for size in sizes for some in combinations(branches, size)]

    def _exactly_one(self, schema: Schema, opened: tuple[Schema, ...]) -> Iterator[Conjunction]:
        """Yield each branch of oneOf with the negation of those that do not exclude it anyway."""
        branches = [self._document.inside(schema, "oneOf", index) for index in range(len(schema["oneOf"]))]
        for index, branch in enumerate(branches):
            others = [
                self._document.negate(other)
                for at, other in enumerate(branches)
                if at != index and not self._is_empty(conjunction(schema, branch, other), schema)
            ]
            self.of(conjunction(branch), opened)
            try:
                self.of(conjunction(branch, *others), opened)
            except RequestError as exc:
                raise schema.unsupported("oneOf whose branches do not exclude each other") from exc
            yield conjunction(branch, *others)

    def _dependency(self, schema: Schema, keyword: str, name: str) -> list[Conjunction]:
        dependent = schema[keyword][name]
        absent = self._document.make(
            (schema, keyword, name, "absent"), {"properties": {name: False}}, schema, silent=True
        )
        names = [dependent] if isinstance(dependent, str) else dependent if isinstance(dependent, list) else []
        required = {"type": "object", "required": [name, *names]}
        present = self._document.make((schema, keyword, name, "present"), required, schema)
        if isinstance(dependent, str | list):
            return [(absent,), (present,)]
        return [(absent,), conjunction(present, self._document.inside(schema, keyword, name))]

    def _unevaluated(self, schema: Schema, keyword: str, evaluating: Conjunction) -> Schema:
        rest = self._document.inside(schema, keyword)
        group = tuple(one for one in evaluating if not one.silent)
        if keyword == "unevaluatedItems" and any("contains" in one for one in group):
            raise schema.unsupported("unevaluatedItems beside contains")
        return self._document.make((schema, keyword, group), {f"~{keyword}": (group, rest)}, schema)


def common_types(schemas: Conjunction) -> frozenset[str]:
    """Return the names of the types that all of the schemas allow; "number" stands for integers, too."""
    found = frozenset({"null", "boolean", "number", "string", "array", "object"})
    for schema in schemas:
        if "type" in schema:
            found &= {"number" if name == "integer" else name for name in types(schema)}
    return found
