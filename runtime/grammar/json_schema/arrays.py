"""What schemas say about arrays."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from ..budget import spend
from ..interning import intern
from ..nodes import Count, Node, UniqueItems
from ..tree import COMMA, NOTHING, choice, literal, reference, repeated, sequence
from .builder import Builder
from .document import FALSE, TRUE, Conjunction, Schema, conjunction
from .values import canonical_value

_SCALARS = frozenset({"null", "boolean", "number", "string"})
_MOST_STATES = 3000


class _Wanted(NamedTuple):
    """Of the items from `start` on, so many have to be valid for a schema."""

    start: int
    schema: Schema
    least: int
    most: int | None


class Arrays:
    """The arrays for which some schemas are valid."""

    def __init__(self, schemas: Conjunction, builder: Builder) -> None:
        self._schemas = schemas
        self._source = schemas[0] if schemas else TRUE
        self._builder = builder
        self._document = builder.document
        self.least = max([0, *(int(schema.get("minItems", 0)) for schema in schemas)])
        self.most = min((int(schema["maxItems"]) for schema in schemas if "maxItems" in schema), default=None)
        self._places = max([0, *(len(_first_items(schema)[1]) for schema in schemas)])
        self._wanted = list(self._collect_wanted())
        self._unique = any(schema.get("uniqueItems") is True for schema in schemas)

    def item(self, index: int) -> Conjunction:
        """Return what has to hold of an item."""
        return conjunction(*self._values(index))

    def accepts(self, value: list[object]) -> bool:
        """Whether the array is one of them."""
        accepts = self._builder.accepts
        if not self.least <= len(value) <= (len(value) if self.most is None else self.most):
            return False
        if self._unique and len({canonical_value(item) for item in value}) < len(value):
            return False
        if not all(accepts(item, self.item(index)) for index, item in enumerate(value)):
            return False
        for wanted in self._wanted:
            count = sum(accepts(item, conjunction(wanted.schema)) for item in value[wanted.start :])
            if count < wanted.least or (wanted.most is not None and count > wanted.most):
                return False
        return True

    def node(self) -> Node:
        """Return them as JSON. Raises RequestError for what is not supported."""
        if self.most is not None and self.least > self.most:
            return NOTHING
        if self._unique and (self.most is None or self.most > 1):
            return sequence(literal("["), self._unique_items())
        if self._wanted:
            return self._counted()
        return sequence(literal("["), self._items())

    def _values(self, index: int) -> Iterator[Schema]:
        inside = self._document.inside
        for schema in self._schemas:
            keyword, first, rest = _first_items(schema)
            if index < len(first):
                yield inside(schema, keyword, index)
            elif rest in schema:
                yield inside(schema, rest)
            if "~unevaluatedItems" in schema:
                group, other = schema["~unevaluatedItems"]
                if not any(_evaluates(one, index) for one in group):
                    yield other

    def _collect_wanted(self) -> Iterator[_Wanted]:
        for schema in self._schemas:
            if "contains" in schema:
                least, most = schema.get("minContains", 1), schema.get("maxContains")
                if least or most is not None:
                    found = self._document.inside(schema, "contains")
                    yield _Wanted(0, found, int(least), None if most is None else int(most))
            if "~someItem" in schema:
                _, start, found = schema["~someItem"]
                yield _Wanted(start, found, 1, None)

    def _items(self) -> Node:
        """Return the items and the closing bracket: those that have a place of their own, then the others."""
        places, node = self._places, self._builder.node
        if self.most is not None and self.most <= places:
            places, rest = self.most, literal("]")
        else:
            other, least = node(self.item(places)), max(0, self.least - places)
            most = None if self.most is None else self.most - places
            more = sequence(COMMA, other)
            if places:
                rest = sequence(repeated(more, least, most), literal("]"))
            else:
                items = sequence(
                    other, repeated(more, max(0, least - 1), None if most is None else most - 1), literal("]")
                )
                rest = items if least else choice(literal("]"), items)
        for index in reversed(range(places)):
            item = node(self.item(index))
            more = sequence(COMMA, item, rest) if index else sequence(item, rest)
            rest = choice(literal("]"), more) if index >= self.least else more
        return rest

    def _unique_items(self) -> Node:
        if self._places or self._wanted:
            raise self._source.unsupported("uniqueItems beside prefixItems or contains")
        item = self.item(0)
        count = self._builder.count_scalars(item)
        if count is None and not self._builder.types(item) <= _SCALARS:
            raise self._source.unsupported("uniqueItems of objects or arrays")
        room = self.most if count is None else count if self.most is None else min(self.most, count)
        if room is not None and room < self.least:
            return NOTHING
        return intern(UniqueItems, self._builder.node(item), True, Count(self.least, room), frozenset[str]())

    def _counted(self) -> Node:
        """Return the array with rules that know how many items were written, and how many of those wanted."""
        prefix = self._builder.new_name("array")
        starts = max(wanted.start for wanted in self._wanted)
        told = max(self._places, starts, self.least, 0 if self.most is None else self.most + 1, 1)
        todo, seen = [(0, (0,) * len(self._wanted))], set[tuple[int, tuple[int, ...]]]()

        def name(state: tuple[int, tuple[int, ...]]) -> str:
            return f"{prefix}_{state[0]}_{'_'.join(map(str, state[1]))}"

        while todo:
            state = todo.pop()
            if state in seen:
                continue
            seen.add(state)
            spend(4)
            if len(seen) > _MOST_STATES:
                raise self._source.unsupported("contains with so many items")
            index, counts = state
            options = []
            if index >= self.least and all(
                count >= wanted.least for count, wanted in zip(counts, self._wanted, strict=True)
            ):
                options.append(literal("]"))
            if self.most is None or index < self.most:
                for item, after in self._counted_items(index, counts):
                    following = (min(index + 1, told), after)
                    todo.append(following)
                    options.append(sequence(COMMA if index else sequence(), item, reference(name(following))))
            self._builder.rules[name(state)] = choice(*options)
        return sequence(literal("["), reference(name((0, (0,) * len(self._wanted)))))

    def _counted_items(self, index: int, counts: tuple[int, ...]) -> Iterator[tuple[Node, tuple[int, ...]]]:
        """Yield the next item by each way in which it counts, and the counts after it."""
        ways: list[list[tuple[Conjunction, int]]] = []
        for count, wanted in zip(counts, self._wanted, strict=True):
            told = wanted.least if wanted.most is None else wanted.most
            negated = conjunction(self._document.negate(wanted.schema)) if wanted.most is not None else ()
            way = [(negated, count)]
            if index >= wanted.start:
                if wanted.most is None or count < wanted.most:
                    way.append((conjunction(wanted.schema), min(count + 1, told)))
            else:
                way = [((), count)]
            ways.append(way)
        base = self.item(index)
        for chosen in product(*ways):
            schemas = conjunction(*base, *(schema for part, _ in chosen for schema in part))
            if FALSE not in schemas:
                yield self._builder.node(schemas), tuple(count for _, count in chosen)


def _first_items(schema: Schema) -> tuple[str, list[object], str]:
    """Return the keyword of the first items, what it has, and the keyword of the others."""
    items = schema.get("items")
    if isinstance(items, list):
        return "items", items, "additionalItems"
    return "prefixItems", schema.get("prefixItems", []), "items"


def _evaluates(schema: Schema, index: int) -> bool:
    _, first, rest = _first_items(schema)
    return index < len(first) or rest in schema or "~unevaluatedItems" in schema
