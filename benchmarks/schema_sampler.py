"""Random texts of a grammar, random variations of schemas and of their instances: the material of differential tests.

Everything is drawn from a `random.Random`, so that a seed repeats it.
"""

import copy
import json
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

from runtime.grammar.matcher import SHORT_ESCAPES, Matcher
from runtime.grammar.nodes import Either, Escape, Literal, Node, Quoted, Raw, Sequence
from runtime.grammar.regular import charset
from runtime.grammar.regular.automaton import State, automaton
from runtime.grammar.regular.charset import Ranges
from runtime.grammar.tree import Tree

_PATIENCE = 4  # times the wanted length, before a text is given up
_UNFAMILIAR = charset.invert(((32, 126), (0xE9, 0xE9), (0x4E00, 0x4E01)))
_DISPUTED = charset.chars("\r\u2028\u2029\ufeff")  # line ends and blanks for ECMA's patterns, not for Python's
_ESCAPED = charset.invert(charset.UNESCAPED)

Json = Any


def sample(tree: Tree, random: Random, length: int = 60) -> str | None:
    """Return a random text of the grammar, which begins to end after about `length` characters; None where it was
    given up."""
    matcher, text = Matcher(tree), ""
    while len(text) < _PATIENCE * length + 400:
        hurry = len(text) > length
        if matcher.complete and (hurry or matcher.ended or random.random() < 0.5):
            return text
        pieces = list(_pieces(matcher.rest().root, random, hurry))
        random.shuffle(pieces)
        pieces.sort(key=lambda piece: piece[0])
        for _, piece in pieces:
            taken = matcher.feed(piece)
            text += piece[:taken]
            if taken:
                break
        else:
            if matcher.complete:
                return text
            raise AssertionError(f"nothing may follow {text!r}")
    return None


def _pieces(root: Node, random: Random, hurry: bool) -> Iterator[tuple[float, str]]:
    """Yield what may come next, and how far it is from the end."""
    for option in root.options if isinstance(root, Either) else (root,):
        node = option.items[0] if isinstance(option, Sequence) and option.items else option
        match node:
            case Literal():
                closes = node.text[0] in "}]"
                yield (0 if closes else 2) if hurry else random.random(), node.text
            case Raw():
                yield from _moves(automaton(node.language), (), random, hurry)
            case Quoted():
                if node.may_close:
                    yield 0 if hurry else random.random() / 4, '"'
                if not hurry:
                    yield random.random() + 0.6, "\\"
                yield from _moves(automaton(node.language), _ESCAPED, random, hurry)
                yield 9, "\\"  # where nothing else is possible
            case Escape():
                yield from ((random.random(), escape) for escape in SHORT_ESCAPES)
                yield 1, f"u00{random.randrange(0x20, 0x7F):02x}"


def _moves(state: State | None, unwritten: Ranges, random: Random, hurry: bool) -> Iterator[tuple[float, str]]:
    if state is None:
        return
    for ranges, target in state.moves:
        allowed = charset.subtract(ranges, unwritten)
        allowed = charset.subtract(allowed, _DISPUTED) or allowed
        familiar = charset.subtract(allowed, _UNFAMILIAR)
        for some in (familiar, allowed) if random.random() < 0.1 else (familiar or allowed,):
            if some:
                low, high = random.choice(some)
                character = chr(random.choice((low, high, random.randint(low, high))))
                yield 1 + target.rest if hurry else random.random(), character


_WORDS = ("a", "b", "x", "", "id", "name")
_SCALARS: tuple[Json, ...] = (None, True, False, 0, 1, -1, 2, 7, 100, 0.5, -3.25, "", "a", "abc", "2020-01-01", [], {})


def vary_instance(instance: Json, random: Random) -> Json:
    """Return the instance with one or two changes."""
    changed = copy.deepcopy(instance)
    for _ in range(random.choice((1, 1, 2))):
        holders = [value for value in _values(changed) if isinstance(value, dict | list) and value]
        if not holders or random.random() < 0.1:
            changed = _vary_holder(changed, random) if isinstance(changed, dict | list) else random.choice(_SCALARS)
        else:
            _vary_holder(random.choice(holders), random)
    return changed


def _vary_holder(holder: Any, random: Random) -> Any:
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = random.choice(keys) if keys else None
    action = random.choice(("remove", "replace", "add", "duplicate", "number"))
    if isinstance(holder, list) and action in ("add", "duplicate"):
        holder.append(copy.deepcopy(holder[key]) if key is not None else random.choice(_SCALARS))
    elif action == "add" or key is None:
        if isinstance(holder, dict):
            holder[random.choice(_WORDS)] = copy.deepcopy(random.choice(_SCALARS))
    elif action == "remove":
        del holder[key]
    elif action == "number" and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] += random.choice((-1, 1, 0.5, 10))
    else:
        holder[key] = copy.deepcopy(random.choice([*_SCALARS, *islice(_values(holder), 20)]))
    return holder


def _values(value: Json) -> Iterator[Json]:
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _values(item)


_DROPPED = ("type", "required", "additionalProperties", "minLength", "pattern", "enum", "items", "properties", "format")


def vary_schema(schema: Json, random: Random, other: Json = True) -> Json:
    """Return a variation of the schema: a keyword dropped, a bound changed, a part negated, or combined with the
    `other`. Its references still resolve."""
    changed = copy.deepcopy(schema)
    action = random.choice(("change", "change", "nest", "nest", "combine"))
    if action == "combine" or not isinstance(changed, dict):
        return _combine(changed, copy.deepcopy(other), random)
    parts = [value for value in _values(changed) if isinstance(value, dict) and _is_schema(value)]
    part = random.choice(parts or [changed])
    if action == "nest":
        inner = {key: part.pop(key) for key in list(part) if key not in _ROOT_ONLY}
        part.update(_nest(inner, random))
        return changed
    keyword = random.choice(list(part))
    if keyword in _DROPPED:
        del part[keyword]
    elif isinstance(part[keyword], int) and not isinstance(part[keyword], bool):
        part[keyword] = max(0, part[keyword] + random.choice((-2, -1, 1, 2)))
    else:
        extra = random.choice(_EXTRAS)
        part.update({key: value for key, value in extra.items() if key not in part})
    return changed


_ROOT_ONLY = frozenset({"$schema", "$id", "id", "$defs", "definitions", "$anchor"})
_EXTRAS: tuple[dict[str, Json], ...] = (
    {"minProperties": 1}, {"maxProperties": 2}, {"propertyNames": {"maxLength": 6}}, {"additionalProperties": False},
    {"patternProperties": {"^[a-f]": {"type": "string"}}}, {"minItems": 1}, {"maxItems": 2}, {"uniqueItems": True},
    {"contains": {"type": "string"}}, {"not": {"type": "null"}}, {"not": {"required": ["a"]}}, {"minimum": 1},
    {"exclusiveMaximum": 10}, {"multipleOf": 3}, {"minLength": 2}, {"maxLength": 3}, {"pattern": "[a-m]"},
    {"if": {"required": ["name"]}, "then": {"required": ["id"]}}, {"dependentRequired": {"a": ["b"]}},
    {"oneOf": [{"type": "string"}, {"maxLength": 2}]}, {"anyOf": [{"type": "object"}, {"type": "array"}]},
    {"unevaluatedProperties": False}, {"unevaluatedItems": False}, {"enum": ["a", 1, None, {"a": 1}, [1]]},
)  # fmt: skip
_APPLICATORS = frozenset({"properties", "type", "items", "$ref", "allOf", "anyOf", "oneOf", "enum", "pattern"})


def _is_schema(value: dict[str, Json]) -> bool:
    return any(isinstance(value.get(key), str | list | dict) for key in _APPLICATORS)


def _nest(inner: Json, random: Random) -> Json:
    extra = random.choice(_EXTRAS)
    return random.choice(
        (
            {"not": inner},
            {"not": {"not": inner}},
            {"oneOf": [inner, extra]},
            {"anyOf": [inner, extra]},
            {"allOf": [inner, extra]},
            {"if": inner, "then": extra},
            {"if": inner, "else": extra},
            {"if": extra, "then": inner, "else": {"not": inner}},
            {"allOf": [inner], "unevaluatedProperties": False},
            {"anyOf": [inner, extra], "unevaluatedProperties": {"type": "string"}},
        )
    )


def _combine(one: Json, other: Json, random: Random) -> Json:
    names = {"a": _moved(one, "a"), "b": _moved(other, "b")}
    a, b = {"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}
    combined = random.choice(
        (
            {"allOf": [a, b]},
            {"anyOf": [a, b]},
            {"oneOf": [a, b]},
            {"allOf": [a, {"not": b}]},
            {"if": a, "then": b},
            {"type": "array", "items": a, "contains": b},
            {"type": "array", "items": {"oneOf": [a, b]}, "maxItems": 3},
            {"type": "object", "additionalProperties": a, "minProperties": 1, "maxProperties": 3},
        )
    )
    dialect = {"$schema": one["$schema"]} if isinstance(one, dict) and "$schema" in one else {}
    return {**dialect, **combined, "$defs": names}


def _moved(schema: Json, name: str) -> Json:
    """Return the schema for a place under `$defs`, with pointers that still resolve."""
    if isinstance(schema, dict):
        schema = {key: value for key, value in schema.items() if key not in ("$schema", "$id", "id")}
    text = json.dumps(schema)
    return json.loads(text.replace('"$ref": "#', f'"$ref": "#/$defs/{name}'))
