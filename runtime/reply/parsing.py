"""The text of a reply, as it streams in, becomes reasoning, text and tool calls.

GLM-4 writes a call as the tool's name on a line of its own and its arguments as a JSON object on the next:

    get_weather
    {"city": "Beijing"}

The built-in tools of 2024 are called with plain text in the place of the object. Since any text will do, such a call is
told from an answer by its place alone: right at the start of a reply, or right after the assistant's token.

A reply may hold reasoning, then text before its calls, and several calls, each of which may begin with the assistant's
token. A line that only looks like a call (a name that was not offered, or no object after it) is text. The assistant's
token ends a call, also one whose object is still open.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from enum import Enum, auto

from ..messages import Reasoning, Text, ToolCall, ToolCallDelta
from ..prompt.families import ReasoningMarks

Part = Text | Reasoning | ToolCallDelta | ToolCall


_SLICE = 4096  # characters read at once: what is held is searched and cut again for every line
_BLANKS = 256  # so many in a row are no part of a call
_DOUBT = 2**16  # so many characters after a mark within a string, and it is taken for text


class _State(Enum):
    OPENING = auto()  # the reply may begin with its reasoning
    REASONING = auto()  # it passes until the mark that closes it
    CANDIDATE = auto()  # what is held begins a line, or with `call_start`: it may turn out to be a call
    TEXT = auto()  # the line is text; it passes until the next line or `call_start`
    ARGUMENTS = auto()  # inside a call's JSON object
    WRITING = auto()  # inside a call's plain text; it passes until `call_start`
    WRITTEN = auto()  # that text is over
    AFTER_CALL = auto()  # blanks and `call_start` after a call belong to nothing


class ReplyParser:
    """Fed any chunks of a reply, in any split, it yields the same reasoning, the same text and the same calls.

    `names` are the tools offered, `call_start` the token that may stand before a call. `written` are those of them that
    are called with text, and the parameter that it becomes. Calls are numbered from `first_call`: call_1, call_2, …

    With `pause_at` "answer" or "call" it stops where the answer, or a call's arguments, are about to begin: then
    `paused` is True and `rewind` gives back what was fed beyond that place.
    """

    def __init__(
        self,
        names: Collection[str],
        call_start: str,
        reasoning: ReasoningMarks | None = None,
        first_call: int = 1,
        written: Mapping[str, str] = {},
    ) -> None:
        self._names = frozenset(names)
        self._call_start = call_start
        self._reasoning = reasoning
        self._held = ""
        self._written = written
        self._opens = True  # nothing stands before what is held but the assistant's token
        self._written_json: list[str] = []  # the arguments, so far, of a call that is written as text
        self._begun = False  # the first blanks of the reasoning, and of the answer, are gone
        self._name = ""
        self._object = _JsonObject(call_start)
        self._taken: list[str] = []  # the arguments, so far, of a call that is written as an object
        self._unread = 0  # characters of a chunk that are not held yet
        self._cut_off = False
        self._number = first_call
        self.pause_at = ""
        self.paused = False
        if reasoning is None:
            self._state = _State.CANDIDATE
        else:
            self._state = _State.REASONING if reasoning.prompted else _State.OPENING

    @property
    def reasoning_is_open(self) -> bool:
        """Whether the reply is in its reasoning, or may yet begin with it."""
        return self._state in (_State.OPENING, _State.REASONING)

    @property
    def call(self) -> str:
        """The name of the call that was opened last."""
        return self._name

    @property
    def held(self) -> int:
        """How many characters, the last that were fed, are not told yet."""
        return len(self._held) + self._unread

    def rewind(self) -> int:
        """Ends the pause and forgets the characters beyond it; returns how many they were."""
        beyond, self._held, self.paused = len(self._held), "", False
        return beyond

    def feed(self, chunk: str) -> Iterator[Part]:
        """The events that are certain after this chunk."""
        for end in range(_SLICE, len(chunk) + _SLICE, _SLICE):
            self._held += chunk[end - _SLICE : end]
            self._unread = max(len(chunk) - end, 0)
            yield from self._events(at_end=False)
            if self.paused:
                self._held += chunk[end:]
                break
        self._unread = 0

    @property
    def call_is_text(self) -> bool:
        """Whether that call is one of text, and still open."""
        return self._state is _State.WRITING

    def finish(self, *, cut_off: bool = False) -> Iterator[Part]:
        """The reply is over: what was held back is text, or a call that was cut off.

        `cut_off` says that the reply was, which a call of text cannot tell by itself.
        """
        self._cut_off = cut_off
        yield from self._events(at_end=True)
        if self._state is _State.ARGUMENTS:
            if self._held:
                self._taken.append(self._held)
                yield ToolCallDelta(f"call_{self._number}", self._name, self._held)
            yield self._call("".join(self._taken), complete=False)
        elif self._state is _State.WRITING:
            if not cut_off:
                yield self._write('"}')
            yield self._call("".join(self._written_json), complete=not cut_off)
        self._held = ""

    def _events(self, *, at_end: bool) -> Iterator[Part]:
        steps = {
            _State.OPENING: self._opening,
            _State.REASONING: self._thought,
            _State.CANDIDATE: self._candidate,
            _State.TEXT: self._text,
            _State.ARGUMENTS: self._arguments,
            _State.WRITING: self._writing,
            _State.WRITTEN: self._written_call,
            _State.AFTER_CALL: self._after_call,
        }
        while (self._held or self._object.over) and not self.paused:
            event = steps[self._state](at_end)
            if event is None:
                return
            if not isinstance(event, Text | Reasoning) or event.text:
                yield event

    # Each step takes something off `_held` or changes the state and returns an event, perhaps an empty text;
    # or it returns None, and waits for more.

    def _opening(self, at_end: bool) -> Text | None:
        assert self._reasoning is not None
        start, mark = self._held.lstrip(), self._reasoning.open
        if start.startswith(mark):
            self._held, self._state = start.removeprefix(mark), _State.REASONING
        elif at_end or not mark.startswith(start) or len(self._held) - len(start) > _BLANKS:
            self._state, self.paused = _State.CANDIDATE, self.pause_at == "answer"
        else:
            return None
        return Text("")

    def _thought(self, at_end: bool) -> Reasoning | None:
        assert self._reasoning is not None
        if not self._begun:
            self._held = self._held.lstrip("\n")
            self._begun = bool(self._held)
        mark = self._reasoning.close
        thought, closed, rest = self._held.partition(mark)
        if closed:
            self._held, self._state, self._begun = rest, _State.CANDIDATE, False
            self.paused = self.pause_at == "answer"
            return Reasoning(thought)
        end = len(thought) if at_end else len(thought) - overlap(thought, mark)
        self._held = thought[end:]
        return Reasoning(thought[:end]) if end else None

    def _candidate(self, at_end: bool) -> Text | ToolCallDelta | None:
        if not self._begun:  # the newline with which GLM-4 opens an answer in words is not part of it
            after_reasoning = self._reasoning is not None
            answer = self._held.lstrip("\n") if after_reasoning else self._held.removeprefix("\n")
            self._opens = self._opens and (after_reasoning or answer == self._held)
            self._held, self._begun = answer, bool(answer) or not after_reasoning
            return Text("")
        if self._names and not at_end and self._call_start.startswith(self._held):
            return None
        line = self._held.removeprefix(self._call_start)
        marked = line != self._held
        opens = not line.startswith("\n") if marked else self._opens
        blanks = len(line)
        if marked:
            line = line.lstrip()
        blanks -= len(line)
        name, newline, rest = line.partition("\n")
        blanks += len(name)
        name = name.rstrip(" ")
        blanks -= len(name)
        if blanks > _BLANKS:
            newline, name = "\n", ""  # a line of text
        if newline and name in self._written and opens:
            self._name, self._held, self._written_json, self._state = name, rest, [], _State.WRITING
            return self._write(f'{{{json.dumps(self._written[name], ensure_ascii=False)}: "')
        if newline and name in self._names and name not in self._written:
            opened = rest.lstrip()
            near = len(rest) - len(opened) <= _BLANKS
            if near and opened.startswith("{"):
                self._name, self._held = name, opened
                self._object, self._taken = _JsonObject(self._call_start), []
                self._opens = False
                self._state, self.paused = _State.ARGUMENTS, self.pause_at == "call"
                return Text("")
            if near and not opened and not at_end:
                return None
        elif not newline and not at_end and any(offered.startswith(name) for offered in self._names):
            return None
        if marked:
            self._held, self._opens = self._held.removeprefix(self._call_start), False
            return Text(self._call_start)
        self._state, self._opens = _State.TEXT, False
        return Text("")

    def _text(self, at_end: bool) -> Text | None:
        held, mark = self._held, self._call_start
        newline_at, mark_at = held.find("\n"), held.find(mark) if self._names else -1
        if mark_at >= 0 and (newline_at < 0 or mark_at < newline_at):
            end, self._state = mark_at, _State.CANDIDATE
        elif newline_at >= 0:
            end, self._state = newline_at + 1, _State.CANDIDATE
        else:
            end = len(held) if at_end or not self._names else len(held) - overlap(held, mark)
            if end == 0:
                return None
        self._held = held[end:]
        return Text(held[:end])

    def _arguments(self, at_end: bool) -> ToolCallDelta | ToolCall | None:
        end = self._object.take(self._held, at_end=at_end and not self._cut_off)
        if end:
            piece, self._held = self._held[:end], self._held[end:]
            self._taken.append(piece)
            return ToolCallDelta(f"call_{self._number}", self._name, piece)
        if not self._object.over:
            return None
        complete, self._object, self._state = self._object.whole, _JsonObject(self._call_start), _State.AFTER_CALL
        return self._call("".join(self._taken), complete=complete)

    def _writing(self, at_end: bool) -> ToolCallDelta | None:
        text, mark, _ = self._held.partition(self._call_start)
        if mark and not text:
            self._state = _State.WRITTEN
            return self._write('"}')
        end = len(text) if mark or at_end else len(text) - overlap(text, self._call_start)
        if end == 0:
            return None
        self._held = self._held[end:]
        return self._write(json.dumps(text[:end], ensure_ascii=False)[1:-1])

    def _written_call(self, at_end: bool) -> ToolCall:
        self._state = _State.AFTER_CALL
        return self._call("".join(self._written_json), complete=True)

    def _write(self, piece: str) -> ToolCallDelta:
        self._written_json.append(piece)
        return ToolCallDelta(f"call_{self._number}", self._name, piece)

    def _after_call(self, at_end: bool) -> Text | None:
        self._held = self._held.lstrip()
        if self._held.startswith(self._call_start):
            self._held, self._opens = self._held.removeprefix(self._call_start), True
        elif at_end or not self._call_start.startswith(self._held):
            self._state = _State.CANDIDATE
        else:
            return None
        return Text("")

    def _call(self, arguments: str, *, complete: bool) -> ToolCall:
        call = ToolCall(self._name, arguments, f"call_{self._number}", complete)
        self._number += 1
        return call


def overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of `mark`."""
    return next(size for size in range(min(len(mark), len(text)), -1, -1) if text.endswith(mark[:size]))


class _JsonObject:
    """Finds where an object ends, each character looked at once. Broken JSON ends where braces do, or before `mark`.

    A mark within a string is text where the string is closed on the same line, as JSON wants it.
    """

    def __init__(self, mark: str) -> None:
        self.over = False
        self.whole = False
        self._mark = mark
        self._seen = 0
        self._doubt: int | None = None  # where a mark stands in an open string
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def take(self, text: str, *, at_end: bool) -> int:
        """How many of the characters are the object's for certain; the next call is given those behind them, and more.
        At its end the object is `over`, and `whole` if its braces are closed. `at_end`: nothing follows the text."""
        if self.over:
            return 0
        end = self._scan(text, at_end)
        self._seen = max(self._seen - end, 0)
        if self._doubt is not None:
            self._doubt -= end
        return end

    def _scan(self, text: str, at_end: bool) -> int:
        for index in range(self._seen, len(text)):
            char = text[index]
            if self._escaped:
                self._escaped = False
            elif (
                char == self._mark[0]
                and self._doubt is None
                and self._mark.startswith(text[index : index + len(self._mark)])
            ):
                if len(text) - index < len(self._mark):
                    if not at_end:
                        self._seen = index
                        return index
                elif self._in_string:
                    self._doubt = index
                else:
                    self.over = True
                    return index
            elif self._in_string:
                if char == "\\":
                    self._escaped = True
                elif char == '"':
                    self._in_string, self._doubt = False, None
                elif char == "\n" and self._doubt is not None:
                    self.over = True
                    return self._doubt
            elif char == '"':
                self._in_string = True
            elif char == "{":
                self._depth += 1
            elif char == "}":
                self._depth -= 1
                if self._depth == 0:
                    self.over = self.whole = True
                    return index + 1
        self._seen = len(text)
        if self._doubt is not None and at_end:
            self.over = True
        elif self._doubt is not None and len(text) - self._doubt > _DOUBT:
            self._doubt = None
        return len(text) if self._doubt is None else self._doubt
