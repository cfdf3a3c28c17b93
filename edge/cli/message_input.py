"""The input of `edge chat`: messages that a person types or pastes."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

_PASTE_SECONDS = 0.05  # seconds to wait for the next line of a pasted text


class MessageInput:
    """An iterator of the messages typed, until Ctrl-D, or a second Ctrl-C at an empty prompt.

    A line that is available immediately after another one was pasted, and belongs to the same message. A line that
    begins with one of the `commands` is a message of its own.
    """

    hint = ""  # how to begin a new line
    shows_status = False

    def __init__(self, commands: Sequence[str]) -> None:
        self._commands = commands
        # While a model is being loaded: a line to show, if that is possible, and whether the load has failed,
        # which ends the input.
        self.status: Callable[[], str] = str
        self.failed: Callable[[], bool] = bool
        self._pending = ""  # a command read together with the previous message
        with suppress(ImportError):  # adds editing and history to input(); Windows has its own
            import readline  # noqa: F401

    def __iter__(self) -> Iterator[str]:
        interrupted = False
        while True:
            try:
                text = self._read_message().strip()
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()
                if interrupted and not self._current_line():
                    return
                interrupted = True
                print("Press Ctrl-C again or Ctrl-D to leave, or type /exit.")
                continue
            interrupted = False
            if text:
                yield text

    def _read_message(self) -> str:
        if self._pending:
            command, self._pending = self._pending, ""
            return command
        lines = [input("\n> ")]
        with suppress(EOFError):
            while not self._is_command(lines[0]) and _input_waiting():
                line = input()
                if self._is_command(line):
                    self._pending = line
                    break
                lines.append(line)
        return "\n".join(lines)

    def _current_line(self) -> str:
        """Return the line that Ctrl-C interrupted; "" without readline."""
        readline = sys.modules.get("readline")
        return str(readline.get_line_buffer()) if readline else ""

    def _is_command(self, line: str) -> bool:
        return line.split(maxsplit=1)[:1] in [[command] for command in self._commands]


if sys.platform == "win32":

    def _input_waiting() -> bool:
        import msvcrt
        import time

        time.sleep(_PASTE_SECONDS)
        return msvcrt.kbhit()

else:

    def _input_waiting() -> bool:
        import select

        return bool(select.select([sys.stdin], [], [], _PASTE_SECONDS)[0])
