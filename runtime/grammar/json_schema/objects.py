"""What schemas say about objects.

Members are written in the order of `properties`, then those that are only `required`, then others: in any order there
would be as many grammars as permutations, and a model follows the order that it was shown. No key is written twice.
"""

from collections.abc import Iterator
from itertools import chain, combinations
from typing import NamedTuple

from ...errors import RequestError
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
        try:
            return searched(pattern)
        except RequestError as exc:
            raise schema.unsupported(str(exc)) from exc


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


class _Chain:
    """The declared members of an object in their order, as rules that know how many were written and what is still
    wanted; other members follow them."""

    def __init__(self, objects: Objects, kinds: list[MemberKind], builder: Builder) -> None:
        self._objects = objects
        self._kinds = tuple(kinds)
        self._builder = builder
        self._prefix = builder.new_name("object")
        most = objects.most
        # A count is told apart up to here.
        self._counted = max(objects.least, 1 if most is None else most + 1, 1)
        self._members = [list(self._member(name)) for name in objects.names]

    def node(self) -> Node:
        """Return the object. Rules are made for the states that can be reached."""
        every = frozenset(range(len(self._objects.wanted)))
        todo, seen = [(0, 0, every)], set[tuple[int, int, frozenset[int]]]()
        while todo:
            state = todo.pop()
            if state in seen:
                continue
            seen.add(state)
            spend(4)
            options = []
            for option, following in self._options(*state):
                if following is None:
                    options.append(option)
                else:
                    todo.append(following)
                    options.append(sequence(option, self._rule(following)))
            self._builder.rules[self._name(state)] = choice(*options)
        return sequence(literal("{"), self._rule((0, 0, every)))

    def _options(
        self, index: int, count: int, wanted: frozenset[int]
    ) -> Iterator[tuple[Node, tuple[int, int, frozenset[int]] | None]]:
        """Yield what may come next, and the state after it."""
        objects = self._objects
        if index == len(objects.names):
            yield self._end(count, wanted), None
            return
        if objects.most is None or count < objects.most:
            comma = sequence(COMMA) if count else sequence()
            for member, done in self._members[index]:
                yield sequence(comma, member), (index + 1, min(count + 1, self._counted), wanted - done)
        if objects.names[index] not in objects.required:
            yield sequence(), (index + 1, count, wanted)

    def _member(self, name: str) -> Iterator[tuple[Node, frozenset[int]]]:
        """Yield the member, and with it what it may do of what is wanted."""
        objects, node = self._objects, self._builder.node
        value = objects.value(name)
        if FALSE in value:
            return
        yield intern(Member, name, node(value)), frozenset()
        for numbers, wanted in objects.subsets():
            if all(language_matches(objects.wanted[number].keys, name) for number in numbers):
                yield intern(Member, name, node(conjunction(*value, *wanted))), numbers

    def _end(self, count: int, wanted: frozenset[int]) -> Node:
        objects = self._objects
        follow = Count(max(0, objects.least - count), None if objects.most is None else objects.most - count)
        if not self._kinds or follow.most == 0:
            return literal("}") if follow.least == 0 and not wanted else NOTHING
        if follow.least and not has_words(union(*(kind.keys for kind in self._kinds)), follow.least):
            return NOTHING
        members = intern(Members, self._kinds, count == 0, follow, wanted, frozenset[str]())
        return members if members.satisfiable else NOTHING

    def _rule(self, state: tuple[int, int, frozenset[int]]) -> Node:
        return reference(self._name(state))

    def _name(self, state: tuple[int, int, frozenset[int]]) -> str:
        index, count, wanted = state
        return f"{self._prefix}_{index}_{count}_{''.join(map(str, sorted(wanted)))}"
