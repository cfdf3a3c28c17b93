"""The text of a reply, as it streams in, becomes text and tool calls.

GLM-4 writes a call as the tool's name on a line of its own and its arguments as a JSON object on the next:

    get_weather
    {"city": "Beijing"}

A reply may hold text before its calls, and several calls, each of which may begin with the assistant's token. A line
that only looks like a call (a name that was not offered, or no object after it) is text.
"""

from collections.abc import Collection, Iterator
from enum import Enum, auto

from .messages import Text, ToolCall


class _State(Enum):
    CANDIDATE = auto()  # what is held begins a line, or with `call_start`: it may turn out to be a call
    TEXT = auto()  # the line is text; it passes until the next line or `call_start`
    ARGUMENTS = auto()  # inside a call's JSON object
    AFTER_CALL = auto()  # blanks and `call_start` after a call belong to nothing


class ReplyParser:
    """Fed any chunks of a reply, in any split, it yields the same text and the same calls.

    `names` are the tools offered, `call_start` the token that may stand before a call. Calls are
    numbered from `first_call`: call_1, call_2, …
    """

    def __init__(self, names: Collection[str], call_start: str, first_call: int = 1) -> None:
        self._names = frozenset(names)
        self._call_start = call_start
        self._state = _State.CANDIDATE
        self._held = ""
        self._begun = False
        self._name = ""
        self._object = _JsonObject()
        self._next_call = first_call

    def feed(self, chunk: str) -> Iterator[Text | ToolCall]:
        """The events that are certain after this chunk."""
        self._held += chunk
        yield from self._events(at_end=False)

    def finish(self) -> Iterator[Text | ToolCall]:
        """The reply is over: what was held back is text, or a call that was cut off."""
        yield from self._events(at_end=True)
        if self._state is _State.ARGUMENTS:
            yield self._call(self._held, complete=False)
        self._held = ""

    def _events(self, *, at_end: bool) -> Iterator[Text | ToolCall]:
        steps = {
            _State.CANDIDATE: self._candidate,
            _State.TEXT: self._text,
            _State.ARGUMENTS: self._arguments,
            _State.AFTER_CALL: self._after_call,
        }
        while self._held:
            event = steps[self._state](at_end)
            if event is None:
                return
            if not isinstance(event, Text) or event.text:
                yield event

    # Each step takes something off `_held` or changes the state and returns an event, perhaps an empty text;
    # or it returns None, and waits for more.

    def _candidate(self, at_end: bool) -> Text | None:
        if not self._begun:  # the newline with which GLM-4 opens an answer in words is not part of it
            self._begun = True
            self._held = self._held.removeprefix("\n")
            return Text("")
        if self._names and not at_end and self._call_start.startswith(self._held):
            return None
        line = self._held.removeprefix(self._call_start)
        marked = line != self._held
        if marked:
            line = line.lstrip()
        name, newline, rest = line.partition("\n")
        name = name.rstrip(" ")
        if newline and name in self._names:
            opened = rest.lstrip()
            if opened.startswith("{"):
                self._name, self._held, self._object = name, opened, _JsonObject()
                self._state = _State.ARGUMENTS
                return Text("")
            if not opened and not at_end:
                return None
        elif not newline and not at_end and any(offered.startswith(name) for offered in self._names):
            return None
        if marked:
            self._held = self._held.removeprefix(self._call_start)
            return Text(self._call_start)
        self._state = _State.TEXT
        return Text("")

    def _text(self, at_end: bool) -> Text | None:
        held, mark = self._held, self._call_start
        newline_at, mark_at = held.find("\n"), held.find(mark) if self._names else -1
        if mark_at >= 0 and (newline_at < 0 or mark_at < newline_at):
            end, self._state = mark_at, _State.CANDIDATE
        elif newline_at >= 0:
            end, self._state = newline_at + 1, _State.CANDIDATE
        else:
            end = len(held)
            if self._names and not at_end:
                end -= next(size for size in range(min(len(mark), end), -1, -1) if held.endswith(mark[:size]))
            if end == 0:
                return None
        self._held = held[end:]
        return Text(held[:end])

    def _arguments(self, at_end: bool) -> ToolCall | None:
        end = self._object.end(self._held)
        if end is None:
            return None
        arguments, self._held = self._held[:end], self._held[end:]
        self._state = _State.AFTER_CALL
        return self._call(arguments, complete=True)

    def _after_call(self, at_end: bool) -> Text | None:
        self._held = self._held.lstrip()
        if self._held.startswith(self._call_start):
            self._held = self._held.removeprefix(self._call_start)
        elif at_end or not self._call_start.startswith(self._held):
            self._state = _State.CANDIDATE
        else:
            return None
        return Text("")

    def _call(self, arguments: str, *, complete: bool) -> ToolCall:
        number, self._next_call = self._next_call, self._next_call + 1
        return ToolCall(self._name, arguments, f"call_{number}", complete)


class _JsonObject:
    """Finds where an object that begins at 0 ends, each character looked at once. Broken JSON ends where braces do."""

    def __init__(self) -> None:
        self._seen = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def end(self, text: str) -> int | None:
        """The index behind the closing brace, or None while it is open. `text` only grows between calls."""
        for index in range(self._seen, len(text)):
            char = text[index]
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif char == "\\":
                    self._escaped = True
                elif char == '"':
                    self._in_string = False
            elif char == '"':
                self._in_string = True
            elif char == "{":
                self._depth += 1
            elif char == "}":
                self._depth -= 1
                if self._depth == 0:
                    return index + 1
        self._seen = len(text)
        return None
