"""The server's log: a line for each request, and at most one a minute for an error that repeats."""

import logging
import time

from runtime.text import replace_controls

LOG = logging.getLogger("edge.server")
_MAX_MESSAGES = 1000


def configure(*, quiet: bool) -> None:
    """Log to stderr: warnings and errors, and, unless `quiet`, a line for each request."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(asctime)s %(message)s"))
    handler.addFilter(RepeatFilter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    LOG.setLevel(logging.WARNING if quiet else logging.INFO)


class LogFormatter(logging.Formatter):
    """A formatter that replaces control characters, which names of folders and models may contain."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record without control characters."""
        return replace_controls(super().format(record))


class RepeatFilter(logging.Filter):
    """A filter that passes a repeated warning or error once every `seconds`, with a count of those it dropped."""

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._seen: dict[
            tuple[str, str], tuple[float, int]
        ] = {}  # when it last passed, and how many were dropped since

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record."""
        if record.levelno < logging.WARNING:
            return True
        now, message = time.monotonic(), record.getMessage()
        key = record.name, message
        since, dropped = self._seen.pop(key, (-self._seconds, 0))
        if now - since < self._seconds:
            self._seen[key] = since, dropped + 1
            return False
        self._seen[key] = now, 0
        if len(self._seen) > _MAX_MESSAGES:
            del self._seen[next(iter(self._seen))]
        if dropped:
            record.msg, record.args = f"{message} (and {dropped:,} times more since the last line)", None
        return True
