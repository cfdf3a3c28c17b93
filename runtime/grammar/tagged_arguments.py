"""A JSON schema becomes a grammar of arguments in tags, as GLM-4.6V writes them: strings as they are, all else as JSON.

    <arg_key>city</arg_key>
    <arg_value>Beijing</arg_value>

Declared properties come in the schema's order; others are written only where none is declared.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from ..errors import RequestError
from .budget import STEPS, budget
from .json_schema.alternatives import common_types
from .json_schema.compiler import Compiler, compile_schema, json_type
from .json_schema.document import FALSE, Conjunction, conjunction
from .json_schema.objects import Objects
from .json_schema.strings import Strings
from .json_schema.values import constant
from .nodes import Node
from .regular import charset
from .regular.language import ANY, Language, chars, concat, intersection, minus, repeat, union, word, words
from .tags import CALL_END, KEY, KEY_END, VALUE, VALUE_END, WITHOUT_TAG
from .tree import NOTHING, Tree, choice, delimited, literal, raw, reference, repeated, sequence, to_json

ALL_TYPES = frozenset({"null", "boolean", "number", "string", "array", "object"})
_KEYS = repeat(
    chars(charset.normalise(charset.subtract(charset.EVERY, ((10, 10), (60, 60))))), 1, 64
)  # no newline, no <
_FIRST = {"number": "-0123456789", "object": "{", "array": "["}  # of JSON of these types
_CONSTANTS = {"null": ("null",), "boolean": ("true", "false")}


def compile_tagged(schema: Any) -> Tree:
    """Return the grammar of a call's arguments, from its first tag to the one that closes the call. Raises RequestError
    as `compile_schema` does."""
    return compile_schema(schema, _TaggedCompiler)


def argument_types(parameters: Mapping[str, Any], name: str) -> frozenset[str]:
    """Return the types of JSON that an argument may have: all of them where the schema does not say."""
    return _argument_types(to_json(parameters), name)


@lru_cache(maxsize=256)
def _argument_types(parameters: str, name: str) -> frozenset[str]:
    from .. import strict_json

    try:
        with budget(STEPS):
            return _TaggedCompiler(strict_json.parse(parameters)).argument_types(name) or ALL_TYPES
    except (RequestError, RecursionError, ValueError):
        return ALL_TYPES


class _TaggedCompiler(Compiler):
    """Makes the rules of arguments in tags."""

    def root(self) -> Node:
        """Return the arguments, and the tag that closes the call."""
        return choice(*map(self._arguments, self._objects()))

    def argument_types(self, name: str) -> frozenset[str]:
        """Return the types of an argument."""
        return frozenset[str]().union(*(self._types(objects.value(name)) for objects in self._objects()))

    def _objects(self) -> Iterator[Objects]:
        for alternative in self._alternatives.of(conjunction(self.document.root)):
            if "object" in common_types(alternative):
                objects = Objects(alternative, self)
                if self._constants(alternative) is not None:
                    raise objects.source.unsupported("enum or const of all arguments")
                yield objects

    def _arguments(self, objects: Objects) -> Node:
        if objects.least > len(objects.required) or objects.most is not None or objects.wanted:
            raise objects.source.unsupported("a number of arguments")
        rest = literal(CALL_END) if objects.names else sequence(self._others(objects), literal(CALL_END))
        for name in reversed(objects.names):
            if not name or name != name.strip() or set(name) & set("<\n"):
                raise objects.source.unsupported(f"the argument name {name!r}")
            opening = literal(f"{KEY}{name}{KEY_END}\n{VALUE}")
            options = [sequence(opening, self._value(objects.value(name)), literal("\n"), rest)]
            if name not in objects.required:
                options.append(rest)
            rule = self.new_name("argument")
            self.rules[rule] = choice(*options)
            rest = reference(rule)
        return rest

    def _others(self, objects: Objects) -> Node:
        """Return any arguments of an object that declares none."""
        value = objects.value("")
        if FALSE in value:
            return literal("")
        key, middle = raw(_KEYS), literal(f"{KEY_END}\n{VALUE}")
        return repeated(sequence(literal(KEY), key, middle, self._value(value), literal("\n")), 0, None)

    def _types(self, schemas: Conjunction) -> frozenset[str]:
        found = set[str]()
        for alternative in () if FALSE in schemas else self._alternatives.of(schemas):
            constants = self._constants(alternative)
            found |= common_types(alternative) if constants is None else set(map(json_type, constants))
        return frozenset(found)

    def _value(self, schemas: Conjunction) -> Node:
        """Return a value and the tag behind it."""
        if FALSE in schemas:
            return NOTHING
        types = self._types(schemas)
        end = literal(VALUE_END)
        options: list[Node] = []
        for alternative in self._alternatives.of(schemas):
            constants = self._constants(alternative)
            if constants is not None:
                texts = [value for value in constants if isinstance(value, str)]
                options += [_text(words(texts), types)] if texts else []
                options += [sequence(constant(value), end) for value in constants if not isinstance(value, str)]
                continue
            for kind in sorted(common_types(alternative)):
                if kind == "string":
                    options.append(_text(Strings.of(alternative).keys(), types))
                else:
                    options.append(sequence(self._build_type(kind, alternative), end))
        return choice(*options)


def _text(language: Language, types: frozenset[str]) -> Node:
    """Return texts as they are and the tag behind them, without those that would be read as JSON of another type."""
    first = "".join(_FIRST[kind] for kind in types & _FIRST.keys())
    if first:
        language = minus(language, concat(union(*map(word, first)), ANY))
    if listed := [text for kind in types & _CONSTANTS.keys() for text in _CONSTANTS[kind]]:
        language = minus(language, words(listed))
    return delimited(concat(intersection(language, WITHOUT_TAG), word(VALUE_END)))
