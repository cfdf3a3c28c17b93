"""The standard error of an MCP server, line by line in our log; the last lines explain why it ended."""

import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import IO

from runtime.text import one_line

LOG = logging.getLogger("edge.mcp")
_LINE_BYTES = 4096  # a longer line is logged in pieces
_KEPT_LINES = 20


class StderrLog:
    """The last lines that a server has written to its standard error."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)

    @property
    def last_line(self) -> str:
        """The last line that is not empty; "" if there is none."""
        return next((line for line in reversed(self._lines) if line.strip()), "")

    @contextmanager
    def pipe(self) -> Iterator[IO[str]]:
        """Yield a file for the standard error of a new process. A thread logs its lines, until the process and its
        children have closed it."""
        reading, writing = os.pipe()
        Thread(target=self._read, args=(reading,), name=f"mcp {self._name}", daemon=True).start()
        with os.fdopen(writing, "w", encoding="utf-8") as file:
            yield file

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as file:
            while data := file.readline(_LINE_BYTES):
                line = one_line(data.decode("utf-8", "replace"), _LINE_BYTES)
                if line:
                    self._lines.append(line)
                    LOG.info("MCP server %s: %s", self._name, line)
