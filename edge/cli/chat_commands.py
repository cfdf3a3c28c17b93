"""The commands of `edge chat`: what a person types after a slash."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from .attachments import Attachments
from .confirm import confirm
from .output import print_text

if TYPE_CHECKING:
    from runtime.chat import Chat
    from runtime.messages import Message

EXITS = ("/exit", "/quit")
_COMMAND = re.compile(r"/[^\s/]*(\s|$)")
_SHOWN = 60  # characters of a message


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its `name`, its `argument` ("" for none, "[TEXT]" for one that may be left out), and what it does."""

    name: str
    argument: str
    text: str

    @property
    def usage(self) -> str:
        """The command as it is typed."""
        return f"{self.name} {self.argument}".rstrip()


COMMANDS = (
    Command("/file", "FILE", "send a document with the next message"),
    Command("/picture", "FILE", "send a picture with the next message"),
    Command("/system", "[TEXT]", 'show the system message, or replace it; "" removes it'),
    Command("/tools", "", "list the tools that the model may call"),
    Command("/tokens", "", "show how much of the context the chat takes"),
    Command("/undo", "", "take back the last message and its reply"),
    Command("/regenerate", "", "replace the last reply by another one"),
    Command("/reset", "", "start a new chat"),
    Command("/save", "FILE", "store the chat"),
    Command("/load", "FILE", "restore a stored chat"),
    Command("/help", "", "list the commands"),
    Command("/exit", "", "end; so do /quit and Ctrl-D"),
)
NAMES = tuple(sorted({command.name for command in COMMANDS} | set(EXITS)))


def is_command(text: str) -> bool:
    """Return whether a message is a command: a line whose first word is a slash and a word, not a path."""
    return "\n" not in text and _COMMAND.match(text) is not None


class ChatCommands:
    """The commands of one chat, with what goes with its next message."""

    def __init__(self, chat: "Chat", attachments: Attachments) -> None:
        self._chat = chat
        self._attachments = attachments
        self._warned = False  # that the context is nearly full

    def run(self, text: str) -> "Message | None":
        """Run a command, and print its result. Return a message to send again, if it is /regenerate. Raises
        EdgeError."""
        name, *rest = text.split(maxsplit=1)
        value = rest[0] if rest else ""
        command = next((one for one in COMMANDS if one.name == name), None)
        if command is None:
            near = get_close_matches(name, NAMES, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            print_text(f"There is no command {name}: {meant}/help lists them.")
        elif bool(value) != bool(command.argument) and not command.argument.startswith("["):
            print_text(f"Write it as {command.usage}.")
        elif name == "/regenerate":
            return self._take_back()
        else:
            self._actions()[name](value)
        return None

    def _actions(self) -> dict[str, Callable[[str], None]]:
        return {
            "/file": self._attachments.add_document,
            "/picture": self._attachments.add_picture,
            "/system": self._system,
            "/tools": self._tools,
            "/tokens": self._tokens,
            "/undo": self._undo,
            "/reset": self._reset,
            "/save": self._save,
            "/load": self._load,
            "/help": self._help,
        }

    def _help(self, _: str) -> None:
        width = max(len(command.usage) for command in COMMANDS)
        for command in COMMANDS:
            print(f"{command.usage:<{width}}  {command.text}")

    def _system(self, value: str) -> None:
        if value:
            self._chat.system = "" if value in ('""', "''") else value
        print_text(self._chat.system or "There is no system message.")

    def _tools(self, _: str) -> None:
        for name, tool in self._chat.tools.items():
            print_text(f"{name}: {(tool.description or 'no description').splitlines()[0]}")
        if not self._chat.tools:
            print("The model may call no tools: --tool and --mcp name some.")

    def _tokens(self, _: str) -> None:
        used, limit = self._count_tokens(), self._chat.model.backend.max_prompt_tokens
        print(f"{used:,} of {limit:,} tokens ({used / limit:.0%})")

    def _count_tokens(self) -> int:
        from runtime.context_window import ContextWindow

        tools = [tool.to_json() for tool in self._chat.tools.values()]
        window = ContextWindow.create(self._chat.model, tools, None, self._chat.template_variables)
        return window.count_tokens(self._chat.history) if self._chat.history else 0

    def describe_context(self) -> str:
        """Return a warning if the chat nearly fills the context, once each time that it comes to that; else ""."""
        from runtime.context_window import NEARLY_FULL

        part = self._count_tokens() / self._chat.model.backend.max_prompt_tokens
        warned, self._warned = self._warned, part >= NEARLY_FULL
        if warned or not self._warned:
            return ""
        next_step = "the oldest messages will be left out" if self._chat.overflow == "drop" else "/reset begins anew"
        return f"[the chat fills {min(part, 1.0):.0%} of the context: {next_step}]"

    def _undo(self, _: str) -> None:
        if message := self._take_back():
            line = message.content.split("\n")[-1]
            print_text(f"Taken back: {line[:_SHOWN]}{'…' if len(line) > _SHOWN else ''}")

    def _take_back(self) -> "Message | None":
        """Remove the last message of the user and what follows it from the history, and return it."""
        history = self._chat.history
        last = max((index for index, message in enumerate(history) if message.role == "user"), default=None)
        if last is None:
            print("There is no message yet.")
            return None
        self._chat.history = history[:last]
        return history[last]

    def _reset(self, _: str) -> None:
        self._chat.reset()
        self._attachments.clear()

    def _save(self, value: str) -> None:
        if Path(value).is_file() and not confirm(f"{value} is there already. Replace it?"):
            return
        self._chat.save(value)

    def _load(self, value: str) -> None:
        self._chat.load(value)
