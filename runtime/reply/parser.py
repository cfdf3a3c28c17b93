"""The protocol of the parsers of a reply's text, and the parser of a plain completion."""

from typing import Protocol

from ..events import Event, Text
from ..grammar.grammar import Grammar


class Parser(Protocol):
    """A parser of a reply's text as it streams in. With `pause_at` "answer" or "call" it pauses where the answer, or a
    call's JSON arguments, are about to begin: then `paused` is True, and `rewind` drops the text beyond that place.
    `reopened` are the names of the calls that `reopen_call` has dropped, the first of which is open again.
    """

    pause_at: str
    paused: bool
    reopened: tuple[str, ...]

    @property
    def answer_opening(self) -> str:
        """What stands before an answer."""
        ...

    @property
    def reasoning_is_open(self) -> bool:
        """Whether the reply is in its reasoning, or may yet begin with it."""
        ...

    @property
    def call(self) -> str:
        """The name of the call that was opened last."""
        ...

    @property
    def call_is_text(self) -> bool:
        """Whether a call whose arguments are plain text is open."""
        ...

    def call_opening(self, name: str) -> str:
        """Return the text that opens a call to that tool."""
        ...

    def arguments_grammar(self, arguments: Grammar) -> Grammar:
        """Return the grammar of arguments as the model writes them, given that of the same arguments as JSON."""
        ...

    def feed(self, chunk: str) -> list[tuple[Event, int]]:
        """Return the events that are certain after this chunk, each with the number of characters fed beyond it."""
        ...

    def rewind(self) -> int:
        """End the pause and forget the characters beyond it; return how many they were."""
        ...

    def reopen_call(self) -> bool:
        """At the end of a reply that is nothing but calls in a nearby shape, with `pause_at` "call": open the first one
        again in GLM-4's own spelling, and pause where its arguments begin. Return whether it is such a reply."""
        ...

    def finish(self, *, cut_off: bool = False) -> list[tuple[Event, int]]:
        """End the reply: what is pending is text, or a call that was cut off. `cut_off` says that the reply was."""
        ...


class PlainText:
    """The parser of a plain completion: all of it is text."""

    pause_at = ""
    paused = False
    reopened: tuple[str, ...] = ()
    answer_opening = ""
    reasoning_is_open = False
    call = ""
    call_is_text = False

    def call_opening(self, name: str) -> str:
        return f"{name}\n"

    def arguments_grammar(self, arguments: Grammar) -> Grammar:
        return arguments

    def feed(self, chunk: str) -> list[tuple[Event, int]]:
        return [(Text(chunk), 0)]

    def rewind(self) -> int:
        return 0

    def reopen_call(self) -> bool:
        return False

    def finish(self, *, cut_off: bool = False) -> list[tuple[Event, int]]:
        return []
