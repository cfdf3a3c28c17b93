"""What schemas say about objects.

Members are written in the order of `properties`, then those that are only `required`, then others: in any order there
would be as many grammars as permutations, and a model follows the order that it was shown. No key is written twice.
"""

from collections.abc import Iterator
from itertools import chain, combinations
from typing import NamedTuple

from ..budget import spend
from ..interning import intern
from ..nodes import Count, Member, MemberKind, Members, Node
from ..regular.automaton import has_words
from ..regular.automaton import matches as language_matches
from ..regular.language import ANY, Language, complement, intersection, minus, union, words
from ..regular.pattern import searched
from ..tree import COMMA, NOTHING, choice, literal, reference, sequence
from .builder import Builder
from .document import FALSE, TRUE, Conjunction, Schema, conjunction

_MOST_KINDS = 64
_MOST_WANTED = 3


class _Wanted(NamedTuple):
    """An object has to have a member with such a key and such a value."""

    keys: Language
    value: Schema


class Objects:
    """The objects for which some schemas are valid."""

    def __init__(self, schemas: Conjunction, builder: Builder) -> None:
        """Raises RequestError for a pattern that is not supported."""
        self._schemas = schemas
        self.source = schemas[0] if schemas else TRUE
        self._builder = builder
        self._document = builder.document
        self.required = list(dict.fromkeys(chain.from_iterable(map(_required, schemas))))
        # Those that negation made say nothing about the order.
        ordered = sorted(schemas, key=lambda schema: schema.silent)
        spoken = [schema for schema in ordered if not schema.silent]
        declared = chain.from_iterable(schema.get("properties") or () for schema in spoken)
        others = chain.from_iterable(schema.get("properties") or () for schema in ordered)
        self.names = list(dict.fromkeys([*declared, *chain.from_iterable(map(_required, ordered)), *others]))
        self.least = max([len(self.required), *(int(schema.get("minProperties", 0)) for schema in schemas)])
        self.most = min((int(schema["maxProperties"]) for schema in schemas if "maxProperties" in schema), default=None)
        self._patterns = {
            pattern: self._searched(schema, pattern)
            for schema in schemas
            for pattern in schema.get("patternProperties") or ()
        }
        members = [schema["~someMember"] for schema in schemas if "~someMember" in schema]
        self.wanted = [_Wanted(self._keys_of(source, which), value) for source, which, value in members]
        if len(self.wanted) > _MOST_WANTED:
            raise self.source.unsupported("not, oneOf or if with so many objects")

    def value(self, name: str) -> Conjunction:
        """Return what has to hold of the value of a member."""
        hits = frozenset(pattern for pattern, keys in self._patterns.items() if language_matches(keys, name))
        found = conjunction(*self._values(name, hits))
        for schema in self._schemas:
            if "propertyNames" in schema and not self._builder.accepts(name, self._property_names(schema)):
                return (FALSE,)
        return found

    def accepts(self, value: dict[str, object]) -> bool:
        """Whether the object is one of them."""
        accepts = self._builder.accepts
        return (
            all(name in value for name in self.required)
            and self.least <= len(value)
            and (self.most is None or len(value) <= self.most)
            and all(accepts(item, self.value(name)) for name, item in value.items())
            and all(
                any(language_matches(keys, name) and accepts(item, conjunction(wanted)) for name, item in value.items())
                for keys, wanted in self.wanted
            )
        )

    def node(self) -> Node:
        """Return them as JSON. Raises RequestError for too many combinations."""
        if self.most is not None and self.least > self.most:
            return NOTHING
        return _Chain(self, self._kinds(), self._builder).node()

    def _values(self, name: str | None, hits: frozenset[str]) -> Iterator[Schema]:
        """Yield what the schemas say about a member of that name (None: one that none declares) whose key matches the
        patterns `hits`."""
        inside = self._document.inside
        for schema in self._schemas:
            known = False
            if name is not None and name in (schema.get("properties") or ()):
                yield inside(schema, "properties", name)
                known = True
            for pattern in schema.get("patternProperties") or ():
                if pattern in hits:
                    yield inside(schema, "patternProperties", pattern)
                    known = True
            if not known and "additionalProperties" in schema:
                yield inside(schema, "additionalProperties")
            if "~unevaluatedProperties" in schema:
                group, rest = schema["~unevaluatedProperties"]
                if not any(_evaluates(one, name, hits) for one in group):
                    yield rest

    def _kinds(self) -> list[MemberKind]:
        """Return the kinds of members that no schema declares, by the patterns that their keys match."""
        keys = complement(words(self.names)) if self.names else ANY
        for schema in self._schemas:
            if "propertyNames" in schema:
                keys = intersection(keys, self._builder.keys(self._property_names(schema)))
        blocks: list[tuple[Language, frozenset[str]]] = [(keys, frozenset())]
        for pattern, matching in self._patterns.items():
            blocks = [
                (part, hits | more)
                for language, hits in blocks
                for part, more in ((intersection(language, matching), {pattern}), (minus(language, matching), set()))
                if self._builder.automaton(part, self.source)
            ]
            if len(blocks) > _MOST_KINDS:
                raise self.source.unsupported("patternProperties that overlap in so many ways")
        return [kind for language, hits in blocks for kind in self._kinds_of(language, hits)]

    def _kinds_of(self, keys: Language, hits: frozenset[str]) -> Iterator[MemberKind]:
        value = conjunction(*self._values(None, hits))
        if FALSE in value or not self._builder.automaton(keys, self.source):
            return
        yield MemberKind(keys, self._builder.node(value))
        for numbers, wanted in self.subsets():
            narrowed = intersection(keys, *(self.wanted[number].keys for number in numbers))
            if self._builder.automaton(narrowed, self.source):
                yield MemberKind(narrowed, self._builder.node(conjunction(*value, *wanted)), numbers)

    def subsets(self) -> Iterator[tuple[frozenset[int], list[Schema]]]:
        """Yield the sets of what is wanted that one member may do, but the empty one."""
        numbers = range(len(self.wanted))
        for size in numbers:
            for some in combinations(numbers, size + 1):
                yield frozenset(some), [self.wanted[number].value for number in some]

    def _keys_of(self, schema: Schema, which: tuple[str, ...]) -> Language:
        """Return the keys that a negated keyword is about."""
        match which:
            case ("pattern", pattern):
                return self._searched(schema, pattern)
            case ("names",):
                return complement(self._builder.keys(self._property_names(schema)))
        patterns = (self._searched(schema, pattern) for pattern in schema.get("patternProperties") or ())
        return intersection(complement(words(schema.get("properties") or ())), *map(complement, patterns))

    def _property_names(self, schema: Schema) -> Conjunction:
        return conjunction(self._document.inside(schema, "propertyNames"))

    @staticmethod
    def _searched(schema: Schema, pattern: str) -> Language:
        with schema.placing_errors():
            return searched(pattern)


def _required(schema: Schema) -> list[str]:
    """Return the required names. In draft 3 it was a boolean of each property, which says nothing today."""
    names = schema.get("required")
    return names if isinstance(names, list) else []


def _evaluates(schema: Schema, name: str | None, hits: frozenset[str]) -> bool:
    """Whether the schema's own keywords evaluate such a member."""
    return (
        (name is not None and name in (schema.get("properties") or ()))
        or any(pattern in hits for pattern in schema.get("patternProperties") or ())
        or "additionalProperties" in schema
        or "~unevaluatedProperties" in schema
    )


class _Place(NamedTuple):
    """A place in an object: of the declared members, those before `position` were written or left out. So many were
    `written`, up to the number from which it says nothing; what is `wanted` is still to come."""

    position: int
    written: int
    wanted: frozenset[int]


class _Chain:
    """The declared members of an object in their order, and other members after them.

    Each place has two rules: what follows the last member, and the next declared member. So the comma between them is
    written once for all the members that may be next, which an engine would have to try one by one.
    """

    def __init__(self, objects: Objects, kinds: list[MemberKind], builder: Builder) -> None:
        self._objects = objects
        self._kinds = tuple(kinds)
        self._builder = builder
        self._prefix = builder.new_name("object")
        most = objects.most
        self._counted = max(objects.least, 1 if most is None else most + 1, 1)
        self._values = [list(self._value(name)) for name in objects.names]
        self._optional_from = max((objects.names.index(name) + 1 for name in objects.required), default=0)
        self._todo: list[tuple[str, _Place]] = []

    def node(self) -> Node:
        """Return the object. Rules are made for the places that can be reached."""
        first = _Place(0, 0, frozenset(range(len(self._objects.wanted))))
        found = sequence(literal("{"), self._rule("rest", first))
        while self._todo:
            kind, place = self._todo.pop()
            name = self._name(kind, place)
            if name not in self._builder.rules:
                spend(2)
                options = self._rest(place) if kind == "rest" else self._member(place)
                self._builder.rules[name] = choice(*options)
        return found

    def _rest(self, place: _Place) -> Iterator[Node]:
        """Yield what may follow the members before a place: a comma and a member, or the end."""
        objects = self._objects
        if place.position < len(objects.names) and (objects.most is None or place.written < objects.most):
            after = place._replace(written=min(place.written + 1, self._counted))
            yield sequence(COMMA if place.written else sequence(), self._rule("member", after))
        if place.position >= self._optional_from:
            yield self._end(place.written, place.wanted)

    def _member(self, place: _Place) -> Iterator[Node]:
        """Yield the declared members that may be the next, which is counted already."""
        position, written, wanted = place
        name = self._objects.names[position]
        for value, done in self._values[position]:
            yield sequence(
                intern(Member, name, value), self._rule("rest", _Place(position + 1, written, wanted - done))
            )
        if name not in self._objects.required and position + 1 < len(self._objects.names):
            yield self._rule("member", place._replace(position=position + 1))

    def _value(self, name: str) -> Iterator[tuple[Node, frozenset[int]]]:
        """Yield the value of a member, and with it what the member may do of what is wanted."""
        objects, node = self._objects, self._builder.node
        value = objects.value(name)
        if FALSE in value:
            return
        yield node(value), frozenset()
        for numbers, wanted in objects.subsets():
            if all(language_matches(objects.wanted[number].keys, name) for number in numbers):
                yield node(conjunction(*value, *wanted)), numbers

    def _end(self, written: int, wanted: frozenset[int]) -> Node:
        objects = self._objects
        follow = Count(max(0, objects.least - written), None if objects.most is None else objects.most - written)
        if not self._kinds or follow.most == 0:
            return literal("}") if follow.least == 0 and not wanted else NOTHING
        if follow.least and not has_words(union(*(kind.keys for kind in self._kinds)), follow.least):
            return NOTHING
        members = intern(Members, self._kinds, written == 0, follow, wanted, frozenset[str]())
        return members if members.satisfiable else NOTHING

    def _rule(self, kind: str, place: _Place) -> Node:
        self._todo.append((kind, place))
        return reference(self._name(kind, place))

    def _name(self, kind: str, place: _Place) -> str:
        return f"{self._prefix}_{kind}_{place.position}_{place.written}_{''.join(map(str, sorted(place.wanted)))}"
