"""Calls as GLM-4.6V writes them: the tool's name, then a pair of tags for each argument.

    <tool_call>get_weather
    <arg_key>city</arg_key>
    <arg_value>Beijing</arg_value>
    <arg_key>days</arg_key>
    <arg_value>3</arg_value>
    </tool_call>

A string is written as it is, any other value as JSON; which of the two it is, the tool's schema decides. The format is
that of GLM-4.5's chat template, which GLM-4.6V shares.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Self

from ... import strict_json
from ...grammar.grammar import Grammar, TaggedArguments
from ...grammar.tags import CALL_END, KEY, KEY_END, VALUE, VALUE_END
from ...prompt.families import Family
from ..stop_texts import overlap
from .call_syntax import CallOpening, Verdict
from .name_line import BLANKS

_LONGEST_KEY = 2**12
_PYTHON = {"True": "true", "False": "false", "None": "null"}


class TaggedCallSyntax:
    """Calls to all tools offered, each between `call_start` and its closing tag."""

    def __init__(self, parameters: Mapping[str, Mapping[str, Any]], call_start: str) -> None:
        """`parameters` maps each tool's name to the schema of its arguments."""
        self._parameters = parameters
        self._call_start = call_start

    @classmethod
    def create(cls, family: Family, tools: Sequence[Mapping[str, Any]]) -> Self:
        return cls({tool["name"]: tool.get("parameters") or {} for tool in tools}, family.call_start)

    def opening(self, name: str) -> str:
        return f"{self._call_start}{name}\n"

    def grammar(self, arguments: Grammar) -> Grammar:
        return TaggedArguments.of(arguments)

    def open(self, text: str, *, at_start: bool, at_end: bool) -> CallOpening | Verdict:
        ends = [end for mark in "\n<" if (end := text.find(mark)) >= 0]
        name = text[: min(ends, default=len(text))].rstrip(" ")
        if not ends:
            return _undecided(name, self._parameters, at_end=at_end)
        arguments = text[min(ends) :].lstrip()
        if name not in self._parameters or len(text) - len(arguments) - len(name) > BLANKS:
            return Verdict.NO_CALL
        if arguments.startswith((KEY, CALL_END)):
            return CallOpening(name, len(text) - len(arguments), _Arguments(self._parameters[name]))
        return _undecided(arguments, (KEY, CALL_END), at_end=at_end)


def _undecided(text: str, wanted: Collection[str], *, at_end: bool) -> Verdict:
    more = not at_end and any(one.startswith(text) for one in wanted)
    return Verdict.UNDECIDED if more else Verdict.NO_CALL


class _State(Enum):
    BETWEEN = auto()  # before a key, or the end of the call
    KEY = auto()
    BEFORE_VALUE = auto()
    STRING = auto()  # passed on as it comes
    VALUE = auto()  # kept until it is complete: JSON, or a string


class _Arguments:
    """Reads tags and writes JSON. A call whose tags are broken ends there, incomplete."""

    opening = "{"
    is_constrainable = True

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.over = self.complete = False
        self._parameters = parameters
        self._state = _State.BETWEEN
        self._types = frozenset[str]()
        self._separator = ""

    def read(self, text: str, *, at_end: bool) -> tuple[int, str]:
        steps = {
            _State.BETWEEN: self._between,
            _State.KEY: self._key,
            _State.BEFORE_VALUE: self._before_value,
            _State.STRING: self._string,
            _State.VALUE: self._value,
        }
        consumed, pieces = 0, list[str]()
        while not self.over and (step := steps[self._state](text[consumed:])) is not None:
            consumed += step[0]
            pieces.append(step[1])
        return consumed, "".join(pieces)

    def finish(self, rest: str, *, cut_off: bool) -> str:
        self.over = True
        if self._state is _State.BETWEEN and not rest.strip() and not cut_off:
            self.complete = True  # the model ended its turn in place of the call
            return "}"
        return _escaped(rest) if self._state is _State.STRING else ""

    # Each step returns how many characters it has read and the JSON that they add; None: it waits for more.

    def _between(self, text: str) -> tuple[int, str] | None:
        start = text.lstrip()
        if start.startswith(CALL_END):
            self.over = self.complete = True
            return len(text) - len(start) + len(CALL_END), "}"
        return self._tag(text, KEY, _State.KEY, (KEY, CALL_END))

    def _key(self, text: str) -> tuple[int, str] | None:
        from ...grammar.tagged_arguments import argument_types  # which loads the compiler of schemas

        key, end, _ = text.partition(KEY_END)
        if not end:
            self.over = len(text) > _LONGEST_KEY
            return None
        self._types = argument_types(self._parameters, key.strip())
        self._state = _State.BEFORE_VALUE
        separator, self._separator = self._separator, ", "
        return len(key) + len(end), f"{separator}{json.dumps(key.strip(), ensure_ascii=False)}: "

    def _before_value(self, text: str) -> tuple[int, str] | None:
        is_string = self._types == {"string"}
        step = self._tag(text, VALUE, _State.STRING if is_string else _State.VALUE, (VALUE,))
        return step and (step[0], '"' if is_string and step[0] else "")

    def _string(self, text: str) -> tuple[int, str] | None:
        value, end, _ = text.partition(VALUE_END)
        if end:
            self._state = _State.BETWEEN
            return len(value) + len(end), _escaped(value) + '"'
        certain = len(text) - overlap(text, VALUE_END)
        return (certain, _escaped(text[:certain])) if certain else None

    def _value(self, text: str) -> tuple[int, str] | None:
        value, end, _ = text.partition(VALUE_END)
        if not end:
            return None
        self._state = _State.BETWEEN
        return len(value) + len(end), _to_json(value, self._types)

    def _tag(self, text: str, tag: str, state: _State, possible: tuple[str, ...]) -> tuple[int, str] | None:
        """Read blanks and a tag, one of those that are possible; anything else ends the call."""
        start = text.lstrip()
        blanks = len(text) - len(start)
        if start.startswith(tag):
            self._state = state
            return blanks + len(tag), ""
        if blanks > BLANKS or not any(one.startswith(start) for one in possible):
            self.over = True
        return None


def _to_json(text: str, types: frozenset[str]) -> str:
    """Return an argument as JSON: the text itself if it is JSON of one of the types, else a string. Where it may be a
    string, too, blanks around it make it one."""
    from ...grammar.json_schema.compiler import json_type

    written = text
    if "string" not in types:
        written = _PYTHON.get(text.strip(), text.strip())
    if written == written.strip():
        try:
            if json_type(strict_json.parse(written)) in types - {"string"}:
                return written
        except ValueError:
            pass
    return json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    """The characters of the text as they stand within a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
