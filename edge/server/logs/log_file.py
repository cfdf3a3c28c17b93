"""The server's log as a file, where nobody reads its standard error: a task of Windows, an agent of macOS.

A few files of a few MB are kept, which only their owner may read. What else goes to standard error, such as the message
of an error at the start, goes to the same file.
"""

import io
import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from runtime.errors import RequestError
from runtime.system.files import expand_user
from runtime.system.user_folders import log_folder, make_private

FILE_NAME = "server.log"
MAX_BYTES = 5_000_000
OLD_FILES = 3


def default_path() -> Path:
    """Return the path of the log that `--log-file` without a name is written to. Raises RequestError."""
    return log_folder() / FILE_NAME


class LogFile(RotatingFileHandler):
    """A handler that writes a log to a file of MAX_BYTES at most, and keeps OLD_FILES before it, as NAME.1 and so on.

    Raises RequestError if the file cannot be opened. A later failure, as on a full disk, loses lines and nothing else:
    nobody could be told.
    """

    def __init__(self, name: str) -> None:
        path = expand_user(name) if name else default_path()
        try:
            if not name:
                make_private(path.parent)
            super().__init__(path, maxBytes=MAX_BYTES, backupCount=OLD_FILES, encoding="utf-8", errors="replace")
        except OSError as exc:
            raise RequestError(
                f"the log {path} cannot be written: {exc.strerror or exc}", hint="name another with --log-file"
            ) from exc

    def _open(self) -> io.TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_open_private)

    def doRollover(self) -> None:
        """Rename the files. Windows renames none that another server has open: this one then grows further."""
        try:
            super().doRollover()
        except OSError:
            if self.stream is None:
                self.stream = self._open()

    def handleError(self, record: logging.LogRecord) -> None:
        """Lose the line: standard error would lead here again."""


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class LogStream(io.TextIOBase):
    """A stream whose lines go to a log's handler: for `sys.stderr`."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler
        self._line = ""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Log each line that is complete now."""
        *lines, self._line = (self._line + text).split("\n")
        for line in filter(str.strip, lines):
            self._handler.handle(logging.LogRecord("stderr", logging.INFO, "", 0, line, None, None))
        return len(text)


def redirect_stderr(handler: logging.Handler) -> None:
    """Send standard error of this process to the log."""
    sys.stderr = LogStream(handler)
