"""A terminal of its own for a program, as a person sits before it. POSIX only."""

import os
import re
import select
import struct
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

# Makes the terminal the program's own, so that Ctrl-C reaches it, and becomes the program.
_OWN = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """What the program writes is `shown`, without the escapes by which a line is edited."""

    def __init__(self, side: int, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self._side = side
        self._bytes = b""
        self._seen = 0

    @property
    def raw(self) -> bytes:
        return self._bytes

    @property
    def shown(self) -> str:
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._bytes.decode(errors="replace"))
        return text.replace("\r\n", "\n").replace("\r", "")

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def interrupt(self) -> None:
        """Presses Ctrl-C once the program waits for a key: a signal just before that is heard with the next one."""
        waiting = psutil.Process(self.process.pid)
        for _ in range(100):
            time.sleep(0.2)
            if waiting.status() == psutil.STATUS_SLEEPING:
                break
        self.type("\x03")

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """Waits for the text after what was waited for last; returns what came before it."""
        end = time.monotonic() + seconds
        while (found := self.shown.find(text, self._seen)) < 0:
            assert time.monotonic() < end, f"no {text!r} in {self.shown[self._seen :]!r}"
            assert self._read(0.1) or self.process.poll() is None, f"it ended: {self.shown!r}"
        before, self._seen = self.shown[self._seen : found], found + len(text)
        return before

    def end(self, seconds: float = 30) -> int:
        """The exit code, once all was read."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it goes on: {self.shown!r}"
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        if not select.select([self._side], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(self._side, 65536)
        except OSError:  # the other side is closed
            return False
        self._bytes += piece
        return bool(piece)


@contextmanager
def terminal(
    command: Sequence[str], *, columns: int = 80, environment: dict[str, str] | None = None, **settings: Any
) -> Generator[Terminal, None, None]:
    """Runs the command in a terminal of that width; it is killed on leaving."""
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", _OWN, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=clean | {"TERM": "xterm", "PYTHONIOENCODING": ""} | (environment or {}),
        **settings,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
