"""The seam of call syntaxes: how a model spells a tool call inside the text of its reply.

A family's record names its syntaxes. A new one is a file beside this one and a line in the table of `syntaxes`; no
other parser changes.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from ...grammar.grammar import Grammar


class Verdict(Enum):
    """The state of a text that opens no call: it never will, or more text may open one."""

    NO_CALL = auto()
    UNDECIDED = auto()  # more text may turn it into a call


class CallBody(Protocol):
    """The arguments of one call, read as they stream in."""

    opening: str  # the JSON that stands before the first character read; "" where the model writes all of it
    is_constrainable: bool  # a grammar can constrain the arguments
    over: bool  # no further text belongs to the call
    complete: bool  # the call was closed as its syntax wants it

    def read(self, text: str, *, at_end: bool) -> tuple[int, str]:
        """Read the beginning of `text`: return the number of characters consumed, and the JSON that they add to the
        arguments. The next call gets the text behind them, and more; `at_end` says that none will follow."""
        ...

    def finish(self, rest: str, *, cut_off: bool) -> str:
        """End the call where the reply ends: return the JSON that the unread `rest` and the end add. `cut_off` says
        that the reply was, by its token limit or a cancellation."""
        ...


@dataclass(frozen=True, slots=True)
class CallOpening:
    """A call to the tool `name`, opened by the first `length` characters of a text; `body` reads what follows."""

    name: str
    length: int
    body: CallBody


class CallSyntax(Protocol):
    """One way of spelling calls to the tools offered."""

    def open(self, text: str, *, at_start: bool, at_end: bool) -> CallOpening | Verdict:
        """Try to read the opening of a call at the beginning of `text`, which starts a line or follows the token that
        starts a call.

        `at_start`: nothing but that token stands before it in the assistant's turn. `at_end`: no text will follow.
        """
        ...

    def opening(self, name: str) -> str:
        """Return the text that opens a call to the tool `name`, up to its arguments."""
        ...

    def grammar(self, arguments: Grammar) -> Grammar:
        """Return the grammar of arguments as the model writes them, given that of the same arguments as JSON."""
        ...
