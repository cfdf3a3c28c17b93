"""`edge serve --ready-json`: one line of JSON on standard output, once the server accepts requests.

For programs that start the server: they read its address and then use HTTP. Nothing else appears on their pipe, which
is closed after that line; logs, and what tools print, go to standard error.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class ReadyRecord:
    """The fields of the line. `api` is the base URL for OpenAI's clients, null for a kiosk; `models` are the names that
    requests may use, the loaded one first; `pid` is the server's process. `uds` is the path of a Unix domain socket,
    where the server listens on one: then the URL's host is localhost."""

    url: str
    api: str | None
    pid: int
    models: tuple[str, ...]
    version: str
    uds: str | None = None


class ReadyOutput:
    """Standard output, kept for that line: whatever is printed from now on goes to standard error."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._stdout = os.dup(1)  # child processes do not inherit it
        os.dup2(2, 1)

    def write(self, record: ReadyRecord) -> None:
        """Write the line and close the output. Raises OSError if nobody reads it any more."""
        with open(self._stdout, "w", encoding="utf-8") as output:
            json.dump(asdict(record), output)
            output.write("\n")
