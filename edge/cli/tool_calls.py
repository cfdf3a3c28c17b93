"""Tool calls in the terminal: each call and its result on a dimmed line, and the question whether a call may run."""

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from runtime import strict_json
from runtime.text import one_line

from ..mcp_client.servers import McpTool
from .output import print_text
from .streams import is_terminal

if TYPE_CHECKING:
    from runtime.chat import Chat
    from runtime.events import ToolCall, ToolResult
    from runtime.tools import Tool

_RESULT_CHARACTERS = 200  # of a result, which the model reads whole
_ANSWERS = {"y": True, "yes": True, "a": True, "always": True, "n": False, "no": False, "": False}


class CallApproval:
    """The `approve` of a chat whose user sits at the terminal. Python functions run, as do the tools that an allow list
    names; before any other, and before the tool python, the user is asked. "always" allows a tool until the program
    ends.

    What a server says of its tools, such as that they only read, changes nothing: nobody has verified it.
    """

    def __init__(self) -> None:
        self.chat: Chat | None = None
        self._always: set[tuple[str, str]] = set()

    def needed(self, call: "ToolCall") -> "Tool | None":
        """Return the tool that a call needs approval for; None if it runs without."""
        tool = self.chat.tools.get(call.name) if self.chat is not None else None
        asks = tool is not None and (not tool.allowed if isinstance(tool, McpTool) else tool.approval)
        return tool if tool is not None and asks and _key(tool) not in self._always else None

    def __call__(self, call: "ToolCall") -> bool:
        """Return whether a call may run."""
        tool = self.needed(call)
        if tool is None:
            return True
        question = f"{_describe_question(call, tool)} [y]es, [n]o, [a]lways: "
        while (answer := _ask(question).strip().lower()) not in _ANSWERS:
            question = "Please type y, n or a: "
        if answer in ("a", "always"):
            self._always.add(_key(tool))
        return _ANSWERS[answer]


def _key(tool: "Tool") -> tuple[str, str]:
    return (tool.server, tool.listed_as) if isinstance(tool, McpTool) else ("", tool.name)


def _describe_question(call: "ToolCall", tool: "Tool") -> str:
    if isinstance(tool, McpTool):
        note = ", which says that it only reads" if tool.read_only else ""
        return f"{describe_call(call)}\nRun it on the MCP server {tool.server}{note}?"
    return f"{_describe_code(call)}\nRun it?"


def _describe_code(call: "ToolCall") -> str:
    """Return a call with the lines of its code, if its one argument is a text of several lines."""
    try:
        (value,) = strict_json.parse(call.arguments).values()
        lines = value.rstrip().split("\n")
    except (ValueError, AttributeError):
        return describe_call(call)
    return "\n".join([f"{_escape(call.name)}:", *(f"    {_escape(line.expandtabs(4))}" for line in lines)])


def describe_call(call: "ToolCall") -> str:
    """Return a call as a line with all of its arguments. Characters that a terminal does not show as they are, such as
    those that turn the direction of writing, appear as escapes."""
    arguments = call.arguments
    with suppress(ValueError):
        arguments = json.dumps(strict_json.parse(arguments), ensure_ascii=False)
    return _escape(f"{call.name} {arguments}")


def describe_result(result: "ToolResult") -> str:
    """Return the beginning of a result as a line."""
    size = len(result.content)
    line = _escape(one_line(result.content, _RESULT_CHARACTERS))
    return f"→ {line}" + (f" ({size:,} characters)" if size > _RESULT_CHARACTERS else "")


def _escape(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _ask(question: str) -> str:
    """Ask at the terminal. What was typed before the question is no answer to it; the end of the input is none either,
    and means no."""
    _drop_typed_ahead()
    if is_terminal(sys.stdout):
        with suppress(EOFError):
            return input(question)
        print()
        return ""
    print_text(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


if sys.platform == "win32":

    def _drop_typed_ahead() -> None:
        import msvcrt

        while msvcrt.kbhit():
            msvcrt.getwch()

else:

    def _drop_typed_ahead() -> None:
        import termios

        with suppress(termios.error, OSError, ValueError):
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
