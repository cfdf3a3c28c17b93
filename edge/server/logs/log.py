"""The server's log: a line for each request, and at most one a minute for an error that repeats."""

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

from runtime.text import replace_controls

LOG = logging.getLogger("edge.server")
_MAX_MESSAGES = 1000


def configure(*, quiet: bool, json_lines: bool = False, handler: logging.Handler | None = None) -> None:
    """Log to a handler, or else to stderr: warnings and errors, and, unless `quiet`, a line for each request and for
    each line of an MCP server's standard error. With `json_lines`, each line is a JSON object."""
    handler = handler or logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if json_lines else LogFormatter("%(asctime)s %(message)s"))
    handler.addFilter(RepeatFilter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for logger in (LOG, logging.getLogger("edge.mcp")):
        logger.setLevel(logging.WARNING if quiet else logging.INFO)


class LogFormatter(logging.Formatter):
    """A formatter that replaces control characters, which names of folders and models may contain."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record without control characters."""
        return replace_controls(super().format(record))


class JsonFormatter(logging.Formatter):
    """A formatter of JSON objects, one a line: time, level, logger, message, and a request's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as JSON in ASCII."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "fields", {}), default=str)


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
