"""The text of a reply, as it streams in, becomes reasoning, text and tool calls.

A reply may hold reasoning, then text before its calls, and several calls, each of which may begin with the assistant's
token. How a call is spelled is the business of a `CallSyntax`; what turns out to be none is text. A reply that may be
nothing but calls in a nearby shape is held back until its end; a call inside a fenced code block is quoted text.
"""

import secrets
from collections.abc import Callable, Sequence
from enum import Enum, auto

from ..events import Event, Reasoning, Text, ToolCall, ToolCallDelta
from ..grammar.grammar import Grammar
from ..prompt.families import SPECIAL_TOKEN, ReasoningMarks
from .calls.call_syntax import CallBody, CallOpening, CallSyntax, Verdict
from .calls.name_line import BLANKS
from .calls.nearby_calls import NearbyCalls
from .code_fence import CodeFence
from .stop_texts import overlap

_SLICE = 4096  # characters parsed at once: what is pending is searched and cut again for every line


class _State(Enum):
    OPENING = auto()  # the reply may begin with its reasoning
    REASONING = auto()  # passed on until the mark that closes it
    CANDIDATE = auto()  # what is pending begins a line, or with `call_start`: it may turn out to be a call
    NEARBY = auto()  # what is pending may be nothing but calls in a nearby shape, which the reply's end decides
    TEXT = auto()  # the line is text, passed on until the next line or `call_start`
    CALL = auto()  # inside a call's arguments
    AFTER_CALL = auto()  # blanks and `call_start` after a call belong to nothing


def new_call_id() -> str:
    """Return a random id for a tool call, in OpenAI's format. Applications prune and merge chats, so an id also has to
    differ from those of every other reply."""
    return f"call_{secrets.token_hex(12)}"


class ReplyParser:
    """The parser of chat replies: fed any chunks, in any split, it returns the same reasoning, text and calls.

    `syntaxes` are those of the tools offered, `call_start` the token that may stand before a call; if it is no special
    token, it stands before every call, unless it is quoted. `nearby` creates a
    recognizer of calls in nearby shapes; without it, such a reply is text. Each call gets an id from `new_id`.
    """

    answer_opening = "\n"  # a call begins directly after the assistant's token

    def __init__(
        self,
        syntaxes: Sequence[CallSyntax],
        call_start: str,
        reasoning: ReasoningMarks | None = None,
        nearby: Callable[[], NearbyCalls] | None = None,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._syntaxes = syntaxes
        self._call_start = call_start
        self._starts_message = bool(SPECIAL_TOKEN.fullmatch(call_start))  # else it is text, and stands before each call
        self._reasoning = reasoning
        # The marks around an answer, which are no part of it; the first one is "" once it was read.
        self._opening, self._closing = (reasoning and reasoning.answer) or ("", "")
        self._pending = ""
        self._unread = 0  # characters of a chunk that are not pending yet
        self._create_nearby = nearby
        self._nearby: NearbyCalls | None = None  # reads what is pending
        self._only_calls = True  # no text stands before what is pending
        self._fence = CodeFence()
        self._at_start = True  # nothing stands before what is pending but the assistant's token
        self._begun = False  # the first blanks of the reasoning, and of the answer, are gone
        self._newline = ""  # the one that is gone, where nothing but it stands before what is pending
        self._name = ""
        self._body: CallBody | None = None
        self._arguments: list[str] = []  # JSON of the call that is open
        self._cut_off = False
        self._new_id = new_id
        self._id = ""  # of the call that was opened last
        self.pause_at = ""
        self.paused = False
        self.reopened: tuple[str, ...] = ()
        if reasoning is None:
            self._state = _State.CANDIDATE
        else:
            self._state = _State.REASONING if reasoning.prompted else _State.OPENING

    @property
    def reasoning_is_open(self) -> bool:
        return self._state in (_State.OPENING, _State.REASONING)

    @property
    def call(self) -> str:
        return self._name

    @property
    def call_is_text(self) -> bool:
        return self._body is not None and not self._body.is_constrainable

    def call_opening(self, name: str) -> str:
        return self._syntaxes[-1].opening(name)

    def arguments_grammar(self, arguments: Grammar) -> Grammar:
        return self._syntaxes[-1].grammar(arguments) if self._syntaxes else arguments

    def rewind(self) -> int:
        beyond, self._pending, self.paused = len(self._pending), "", False
        return beyond

    def reopen_call(self) -> bool:
        calls = self._nearby_calls() if self.pause_at == "call" else ()
        if not calls:
            return False
        for syntax in self._syntaxes:
            found = syntax.open(f"{calls[0][0]}\n{{", at_start=self._at_start, at_end=False)
            if isinstance(found, CallOpening) and found.body.is_constrainable:
                self._open_call(found, self._newline + self._pending)
                self.reopened = tuple(name for name, _ in calls)
                return True
        return False

    def feed(self, chunk: str) -> list[tuple[Event, int]]:
        events: list[tuple[Event, int]] = []
        for end in range(_SLICE, len(chunk) + _SLICE, _SLICE):
            self._pending += chunk[end - _SLICE : end]
            self._unread = max(len(chunk) - end, 0)
            self._parse(events, at_end=False)
            if self.paused:
                self._pending += chunk[end:]
                break
        self._unread = 0
        return events

    def finish(self, *, cut_off: bool = False) -> list[tuple[Event, int]]:
        events: list[tuple[Event, int]] = []
        self._cut_off = cut_off
        for name, arguments in () if cut_off else self._nearby_calls():
            self._id, self._name, self._arguments, self._pending = self._new_id(), name, [], ""
            events += [(self._delta(arguments), 0), (self._close_call(complete=True), 0)]
        self._parse(events, at_end=True)
        if (body := self._body) is not None:
            if piece := body.finish(self._pending, cut_off=cut_off):
                events.append((self._delta(piece), 0))
            events.append((self._close_call(body.complete), 0))
        self._pending = ""
        return events

    def _parse(self, events: list[tuple[Event, int]], *, at_end: bool) -> None:
        steps = {
            _State.OPENING: self._read_opening,
            _State.REASONING: self._read_reasoning,
            _State.CANDIDATE: self._read_candidate,
            _State.NEARBY: self._read_nearby,
            _State.TEXT: self._read_text,
            _State.CALL: self._read_call,
            _State.AFTER_CALL: self._read_after_call,
        }
        while (self._pending or (self._body is not None and self._body.over)) and not self.paused:
            event = steps[self._state](at_end)
            if event is None:
                return
            if not isinstance(event, Text | Reasoning) or event.text:
                events.append((event, len(self._pending) + self._unread))

    # Each step takes something off `_pending` or changes the state and returns an event, perhaps an empty text;
    # or it returns None, and waits for more.

    def _read_opening(self, at_end: bool) -> Text | None:
        assert self._reasoning is not None
        start, mark = self._pending.lstrip(), self._reasoning.open
        if start.startswith(mark):
            self._pending, self._state = start.removeprefix(mark), _State.REASONING
        elif at_end or not mark.startswith(start) or len(self._pending) - len(start) > BLANKS:
            self._state, self.paused = _State.CANDIDATE, self.pause_at == "answer"
        else:
            return None
        return Text("")

    def _read_reasoning(self, at_end: bool) -> Reasoning | None:
        assert self._reasoning is not None
        if not self._begun:
            self._pending = self._pending.lstrip("\n")
            self._begun = bool(self._pending)
        mark = self._reasoning.close
        reasoning, closed, rest = self._pending.partition(mark)
        if closed:
            self._pending, self._state, self._begun = rest, _State.CANDIDATE, False
            self.paused = self.pause_at == "answer"
            return Reasoning(reasoning)
        end = len(reasoning) if at_end else len(reasoning) - overlap(reasoning, mark)
        self._pending = reasoning[end:]
        return Reasoning(reasoning[:end]) if end else None

    def _read_candidate(self, at_end: bool) -> Text | ToolCallDelta | None:
        if not self._begun:  # the newline with which GLM-4 opens an answer in words is not part of it
            after_reasoning = self._reasoning is not None
            answer = self._pending.lstrip("\n") if after_reasoning else self._pending.removeprefix("\n")
            self._newline = "" if after_reasoning or answer == self._pending else "\n"
            self._at_start = self._at_start and (after_reasoning or answer == self._pending)
            self._pending, self._begun = answer, bool(answer) or not after_reasoning
            return self._read_answer_opening(at_end) if self._opening else Text("")
        if self._closing and self._pending.startswith(self._closing):
            self._pending = self._pending.removeprefix(self._closing)
            return Text("")
        if not at_end and self._closing.startswith(self._pending):
            return None
        if self._syntaxes and not at_end and self._call_start.startswith(self._pending):
            return None
        line = self._pending.removeprefix(self._call_start)
        marked = line != self._pending
        at_start = not line.startswith("\n") if marked else self._at_start
        start = line.lstrip() if marked else line
        may_open = (marked or not self._fence.open) if self._starts_message else (marked and not self._fence.open)
        if len(line) - len(start) <= BLANKS and may_open:
            for found in [syntax.open(start, at_start=at_start, at_end=at_end) for syntax in self._syntaxes]:
                if isinstance(found, CallOpening):
                    return self._open_call(found, start[found.length :])
                if found is Verdict.UNDECIDED:
                    return None
        if self._only_calls and self._create_nearby is not None:
            self._nearby, self._state = self._create_nearby(), _State.NEARBY
            return Text("")
        self._at_start = self._only_calls = False
        if marked:
            self._pending = self._pending.removeprefix(self._call_start)
            if self._starts_message:
                self._fence = CodeFence()  # the token begins another message
            else:
                self._fence.feed(self._call_start)
                self._state = _State.TEXT
            return Text(self._call_start)
        self._state = _State.TEXT
        return Text("")

    def _read_answer_opening(self, at_end: bool) -> Text | None:
        answer = self._pending
        if not answer or (answer != self._opening and self._opening.startswith(answer) and not at_end):
            self._begun = False
            return None
        if answer.startswith(self._opening):
            self._pending, self._begun = answer.removeprefix(self._opening), False
        self._opening = ""
        return Text("")

    def _read_nearby(self, at_end: bool) -> Text | None:
        assert self._nearby is not None
        if self._nearby.feed(self._pending[self._nearby.length :]) and not at_end:
            return None
        self._only_calls, self._nearby, self._state = False, None, _State.CANDIDATE
        return Text("")

    def _nearby_calls(self) -> tuple[tuple[str, str], ...]:
        """The calls that the reply is nothing but, if it ends here."""
        return () if self._nearby is None else self._nearby.finish()

    def _read_text(self, at_end: bool) -> Text | None:
        pending = self._pending
        held = [text for text in (self._call_start if self._syntaxes else "", self._closing) if text]
        ends = [place for text in ("\n", *held) if (place := pending.find(text)) >= 0]
        if ends:
            end = min(ends)
            self._state = _State.CANDIDATE
            end += pending.startswith("\n", end)
        else:
            end = len(pending) if at_end else len(pending) - max((overlap(pending, text) for text in held), default=0)
            if end == 0:
                return None
        self._pending = pending[end:]
        self._fence.feed(pending[:end])
        return Text(pending[:end])

    def _open_call(self, opening: CallOpening, rest: str) -> Text | ToolCallDelta:
        self._id, self._name, self._body = self._new_id(), opening.name, opening.body
        self._arguments, self._pending = [], rest
        self._state, self._nearby, self.reopened = _State.CALL, None, ()
        self._fence, self._newline = CodeFence(), ""
        if opening.body.is_constrainable:
            self._at_start, self.paused = False, self.pause_at == "call"
        return self._delta(opening.body.opening) if opening.body.opening else Text("")

    def _read_call(self, at_end: bool) -> ToolCallDelta | ToolCall | None:
        body = self._body
        assert body is not None
        end, piece = body.read(self._pending, at_end=at_end and not self._cut_off)
        self._pending = self._pending[end:]
        if piece:
            return self._delta(piece)
        return self._close_call(body.complete) if body.over else None

    def _read_after_call(self, at_end: bool) -> Text | None:
        self._pending = self._pending.lstrip()
        if self._starts_message and self._pending.startswith(self._call_start):
            self._pending, self._at_start = self._pending.removeprefix(self._call_start), True
        elif at_end or not self._call_start.startswith(self._pending):
            self._state = _State.CANDIDATE
        else:
            return None
        return Text("")

    def _delta(self, piece: str) -> ToolCallDelta:
        self._arguments.append(piece)
        return ToolCallDelta(self._id, self._name, piece)

    def _close_call(self, complete: bool) -> ToolCall:
        call = ToolCall(self._name, "".join(self._arguments), self._id, complete)
        self._body, self._state = None, _State.AFTER_CALL
        return call
