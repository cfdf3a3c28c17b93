"""The messages of a chat so far. They can be replaced, saved and loaded between two turns."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import strict_json
from .checks import require
from .errors import RequestError
from .events import ToolCall
from .messages import Message, MessageLike, to_messages
from .system.files import write_atomically
from .text import one_line


class History:
    """The messages of a chat, the chat's system message first. A turn is in progress from `begin_turn` to `end_turn`;
    until then the messages cannot be replaced.

    Raises RequestError for messages that are none, or if they begin with another system message than `system`.
    """

    def __init__(self, system: str = "", messages: Iterable[MessageLike] = ()) -> None:
        given = _to_list(messages)
        if given and given[0].role == "system":
            if system and given[0].content != system:
                raise RequestError(
                    "the history begins with another system message than `system`", hint="leave one of them out"
                )
            system = given[0].content
        self._system = (Message("system", system),) if system else ()
        self._busy = False
        self.messages: tuple[Message, ...] = ()
        self.replace(given)

    def replace(self, messages: Iterable[MessageLike]) -> None:
        """Replace all messages. The chat's system message stays, unless the new ones begin with one."""
        self._require_idle()
        new = _to_list(messages)
        self.messages = new if new and new[0].role == "system" else (*self._system, *new)

    @property
    def system(self) -> str:
        """The system message, "" if there is none. It can be replaced; the other messages stay."""
        first = self.messages[:1]
        return first[0].content if first and first[0].role == "system" else ""

    @system.setter
    def system(self, text: str) -> None:
        self._require_idle()
        others = self.messages[1:] if self.messages and self.messages[0].role == "system" else self.messages
        self._system = (Message("system", text),) if text else ()
        self.messages = (*self._system, *others)

    def reset(self) -> None:
        """Drop all messages but the chat's system message."""
        self.replace(())

    def begin_turn(self) -> None:
        """Begin a turn. Raises RequestError if one is in progress."""
        self._require_idle()
        self._busy = True

    def _require_idle(self) -> None:
        if self._busy:
            raise RequestError("the chat is still replying", hint="read that reply to its end, or cancel it")

    def end_turn(self, added: Sequence[Message]) -> None:
        """End the turn, and append its messages."""
        self._busy = False
        self.messages += tuple(added)

    @property
    def busy(self) -> bool:
        """Whether a turn is in progress."""
        return self._busy

    def require_results(self, messages: Sequence[Message]) -> None:
        """Raise RequestError unless `messages`, which continue the history, begin with the results of the calls that
        the application has to answer."""
        answered = {message.tool_call_id for message in messages if message.role == "tool"}
        if missing := [call for call in self._unanswered_calls() if call.id not in answered]:
            calls = ", ".join(f"{call.name} ({call.id})" for call in missing)
            raise RequestError(
                f"the model waits for the results of {calls}",
                hint='send {"role": "tool", "tool_call_id": …, "content": …} for each, or reset the chat',
            )

    def _unanswered_calls(self) -> tuple[ToolCall, ...]:
        answered = set()
        for message in reversed(self.messages):
            if message.role != "tool":
                return tuple(call for call in message.tool_calls if call.id not in answered)
            answered.add(message.tool_call_id)
        return ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the messages as JSON, in the layout of OpenAI's. The file is replaced atomically. Raises
        RequestError."""
        target = Path(path)
        text = json.dumps({"messages": [message.to_json() for message in self.messages]}, indent=2, ensure_ascii=False)
        try:
            write_atomically(target, f"{text}\n".encode(), private=True)
        except OSError as exc:
            raise RequestError(f"{target} cannot be written: {exc.strerror}", hint="choose another place") from exc

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the messages by saved ones. Raises RequestError for a file that is not one; the history then stays
        unchanged."""
        try:
            data = strict_json.parse(Path(path).read_bytes())
            messages = [Message.from_json(item) for item in data["messages"]]
        except OSError as exc:
            raise RequestError(f"{path} cannot be read: {exc.strerror}", hint="`save` writes such a file") from exc
        except (ValueError, KeyError, TypeError, RequestError) as exc:
            raise RequestError(
                f"{path} is not a saved chat: {one_line(repr(exc))}", hint="`save` writes such a file"
            ) from exc
        self.replace(messages)


def _to_list(messages: Iterable[MessageLike]) -> tuple[Message, ...]:
    require("history", messages, list | tuple, "a list of messages")
    return to_messages(messages)
