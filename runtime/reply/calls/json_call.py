"""Calls as every GLM-4 writes them: the tool's name on a line of its own, then its arguments as a JSON object.

    get_weather
    {"city": "Beijing"}

A line that only looks like a call (a name that was not offered, or no object after it) is text. The token that starts a
call ends the one before it, even if its object is still open.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from ...grammar.grammar import Grammar
from ...prompt.families import Family
from ...prompt.families.layout import find_text_tools
from .call_syntax import CallOpening, Verdict
from .name_line import BLANKS, read_name

_UNCERTAIN = 2**16  # characters after a mark within a string, beyond which the mark is taken for text


class JsonCallSyntax:
    """Calls to all tools offered but those that are called with plain text."""

    def __init__(self, names: Collection[str], call_start: str) -> None:
        self._names = frozenset(names)
        self._call_start = call_start

    @classmethod
    def create(cls, family: Family, tools: Sequence[Mapping[str, Any]]) -> Self:
        return cls(find_json_tools(family, tools), family.call_start)

    def opening(self, name: str) -> str:
        return f"{name}\n"

    def grammar(self, arguments: Grammar) -> Grammar:
        return arguments

    def open(self, text: str, *, at_start: bool, at_end: bool) -> CallOpening | Verdict:
        found = read_name(text, self._names, at_end=at_end)
        if isinstance(found, Verdict):
            return found
        name, rest = found
        arguments = rest.lstrip()
        if len(rest) - len(arguments) > BLANKS:
            return Verdict.NO_CALL
        if arguments.startswith("{"):
            return CallOpening(name, len(text) - len(arguments), _JsonObject(self._call_start))
        return Verdict.NO_CALL if arguments or at_end else Verdict.UNDECIDED


def find_json_tools(family: Family, tools: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the names of the tools that a family's model calls with JSON."""
    names = family.own_tools or [tool["name"] for tool in tools]
    return frozenset(names) - frozenset(find_text_tools(tools, family.built_in))


class _JsonObject:
    """Finds where an object ends, looking at each character once. Broken JSON ends where its braces do, or before
    `mark`.

    A mark within a string is text if the string is closed on the same line, as JSON wants it.
    """

    opening = ""
    is_constrainable = True

    def __init__(self, mark: str) -> None:
        self.over = False
        self.complete = False
        self._mark = mark
        self._scanned = 0
        self._uncertain: int | None = None  # where a mark stands in an open string
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def read(self, text: str, *, at_end: bool) -> tuple[int, str]:
        if self.over:
            return 0, ""
        end = self._scan(text, at_end)
        self._scanned = max(self._scanned - end, 0)
        if self._uncertain is not None:
            self._uncertain -= end
        return end, text[:end]

    def finish(self, rest: str, *, cut_off: bool) -> str:
        self.over = True
        return rest

    def _scan(self, text: str, at_end: bool) -> int:
        for index in range(self._scanned, len(text)):
            char = text[index]
            if self._escaped:
                self._escaped = False
            elif (
                char == self._mark[0]
                and self._uncertain is None
                and self._mark.startswith(text[index : index + len(self._mark)])
            ):
                if len(text) - index < len(self._mark):
                    if not at_end:
                        self._scanned = index
                        return index
                elif self._in_string:
                    self._uncertain = index
                else:
                    self.over = True
                    return index
            elif self._in_string:
                if char == "\\":
                    self._escaped = True
                elif char == '"':
                    self._in_string, self._uncertain = False, None
                elif char == "\n" and self._uncertain is not None:
                    self.over = True
                    return self._uncertain
            elif char == '"':
                self._in_string = True
            elif char == "{":
                self._depth += 1
            elif char == "}":
                self._depth -= 1
                if self._depth == 0:
                    self.over = self.complete = True
                    return index + 1
        self._scanned = len(text)
        if self._uncertain is not None and at_end:
            self.over = True
        elif self._uncertain is not None and len(text) - self._uncertain > _UNCERTAIN:
            self._uncertain = None
        return len(text) if self._uncertain is None else self._uncertain
