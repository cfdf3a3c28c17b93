"""The input of `edge chat` by prompt_toolkit: several lines, pasted text as it is, and a history that is kept."""

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from runtime.errors import Notice, RequestError
from runtime.system.user_folders import history_file, make_private

from .message_input import MessageInput
from .streams import is_terminal

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

_MAX_HISTORY_BYTES = 2**20  # above which the older half is dropped
_REFRESH = 0.5  # seconds between two looks at a load
_ENTRY = b"\n# "  # the beginning of an entry of prompt_toolkit's file


class TerminalInput(MessageInput):
    """The messages typed at a prompt. Enter sends; Alt-Enter, or Enter after a backslash, begins a new line.

    Lines that arrive at once were pasted, and belong to one message, also where the terminal does not mark a paste.
    """

    hint = "Alt-Enter, or a backslash at the end, begins a new line."
    shows_status = True

    def __init__(self, commands: Sequence[str], *, keep_history: bool = True) -> None:
        super().__init__(commands)
        self._session = self._open_session(_open_history() if keep_history else None)

    def _open_session(self, history: "History | None") -> "PromptSession[str]":
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.shortcuts import CompleteStyle

        return PromptSession(
            multiline=True,
            prompt_continuation="  ",
            key_bindings=self._bindings(),
            history=history,
            completer=WordCompleter(list(self._commands), sentence=True),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            reserve_space_for_menu=0,
            output=_output(),
        )

    def _bindings(self) -> "KeyBindings":
        from prompt_toolkit.key_binding import KeyBindings

        bindings = KeyBindings()

        @bindings.add("escape", "enter")
        def begin_line(event: "KeyPressEvent") -> None:
            event.current_buffer.insert_text("\n")

        @bindings.add("enter")
        def send(event: "KeyPressEvent") -> None:
            buffer = event.current_buffer
            rest = "".join(key.data for key in event.key_processor.input_queue)
            if buffer.document.text_before_cursor.endswith("\\"):
                buffer.delete_before_cursor()
                buffer.insert_text("\n")
            elif rest.strip() and not self._is_command(buffer.text) and not self._is_command(rest.split("\n")[0]):
                buffer.insert_text("\n")  # of a paste
            else:
                buffer.validate_and_handle()

        return bindings

    def _read_message(self) -> str:
        print()
        if not self.status():
            return str(self._session.prompt("> ", rprompt=""))
        return str(
            self._session.prompt("> ", rprompt=self._show_status, refresh_interval=_REFRESH, pre_run=self._watch_load)
        )

    def _show_status(self) -> str:
        return "" if self._session.app.is_done else self.status()

    def _watch_load(self) -> None:
        """End the input, as Ctrl-D does, once the load has failed."""
        import asyncio

        app = self._session.app

        async def watch() -> None:
            while not self.failed():
                await asyncio.sleep(_REFRESH)
            app.exit(exception=EOFError())

        app.create_background_task(watch())

    def _current_line(self) -> str:
        return str(self._session.default_buffer.text)


def open_input(commands: Sequence[str], *, keep_history: bool = True) -> MessageInput:
    """Return the input by prompt_toolkit, or the plain one where that is not installed or the terminal is a simple
    one."""
    screen = is_terminal(sys.stdin) and is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb"
    if not screen or not _has_prompt_toolkit():
        return MessageInput(commands)
    return TerminalInput(commands, keep_history=keep_history)


def _has_prompt_toolkit() -> bool:
    try:
        return find_spec("prompt_toolkit") is not None
    except ValueError:  # it is excluded: sys.modules has None in its place
        return False


def _open_history() -> "History | None":
    """Open the file, readable by its user alone; None, with a Notice, if that is not possible."""
    from prompt_toolkit.history import FileHistory

    class KeptHistory(FileHistory):
        """A history whose file may fill the disk: the message is sent all the same."""

        def store_string(self, string: str) -> None:
            with suppress(OSError):
                super().store_string(string)

    try:
        path = history_file()
        make_private(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with open(descriptor, "r+b") as file:
            if sys.platform != "win32":
                os.fchmod(descriptor, 0o600)
            _drop_older_half(file)
    except (OSError, RequestError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        warnings.warn(f"the messages that you type are not kept: {reason}", Notice, stacklevel=1)
        return None
    return KeptHistory(str(path))


def _drop_older_half(file: Any) -> None:
    """Drop the older half of a file that is too large, at the beginning of an entry."""
    data = file.read(8 * _MAX_HISTORY_BYTES)
    if len(data) <= _MAX_HISTORY_BYTES:
        return
    start = data.find(_ENTRY, max(len(data) // 2, len(data) - _MAX_HISTORY_BYTES // 2))
    file.seek(0)
    file.write(data[start:] if start >= 0 else b"")
    file.truncate()


def _output() -> Any:
    """Return the terminal, without questions for the cursor's position: some terminals do not answer."""
    if sys.platform == "win32":
        return None
    from prompt_toolkit.output.vt100 import Vt100_Output

    output = Vt100_Output.from_pty(sys.stdout, term=os.environ.get("TERM"))
    output.enable_cpr = False
    return output
