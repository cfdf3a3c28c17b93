"""Calls of the tools that GLM-4 of 2024 has built in: the tool's name on a line, then plain text instead of JSON.

    python
    print(2 + 2)

Any text will do as an argument, so such a call is told from an answer by its place alone: at the very start of the
assistant's turn. It ends at the next token that starts a call, or with the reply.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from ...grammar.grammar import Grammar
from ...prompt.families import Family
from ...prompt.families.layout import find_text_tools
from ..stop_texts import overlap
from .call_syntax import CallOpening, Verdict
from .name_line import read_name


class TextCallSyntax:
    """Calls to those of the tools that are offered as built in (their `type` is that of a family's own tool)."""

    def __init__(self, parameters: Mapping[str, str], call_start: str) -> None:
        """`parameters` maps each tool's name to the one parameter that its text becomes."""
        self._parameters = parameters
        self._call_start = call_start

    @classmethod
    def create(cls, family: Family, tools: Sequence[Mapping[str, Any]]) -> Self:
        return cls(find_text_tools(tools, family.built_in), family.call_start)

    def opening(self, name: str) -> str:
        return f"{name}\n"

    def grammar(self, arguments: Grammar) -> Grammar:
        return arguments

    def open(self, text: str, *, at_start: bool, at_end: bool) -> CallOpening | Verdict:
        found = read_name(text, self._parameters, at_end=at_end)
        if isinstance(found, Verdict):
            return found
        name, rest = found
        if not at_start:
            return Verdict.NO_CALL
        return CallOpening(name, len(text) - len(rest), _Text(self._parameters[name], self._call_start))


class _Text:
    """Plain text that becomes the value of one parameter."""

    is_constrainable = False

    def __init__(self, parameter: str, call_start: str) -> None:
        self.opening = f'{{{json.dumps(parameter, ensure_ascii=False)}: "'
        self.over = self.complete = False
        self._call_start = call_start

    def read(self, text: str, *, at_end: bool) -> tuple[int, str]:
        if self.over:
            return 0, ""
        before, mark, _ = text.partition(self._call_start)
        if mark and not before:
            self.over = self.complete = True
            return 0, '"}'
        end = len(before) if mark or at_end else len(before) - overlap(before, self._call_start)
        return end, _escaped(before[:end])

    def finish(self, rest: str, *, cut_off: bool) -> str:
        self.over, self.complete = True, not cut_off
        return _escaped(rest) + ("" if cut_off else '"}')


def _escaped(text: str) -> str:
    """The characters of the text as they stand within a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
