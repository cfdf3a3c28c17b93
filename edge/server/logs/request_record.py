"""The facts of one request that the log shows; each part of the server fills in what it knows."""

import time
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

# Keys of a request's ASGI scope.
RECORD = "edge.record"  # its RequestRecord
CLIENT = "edge.client"  # among whom slots are shared out: the name of an API key, or a network address


@dataclass(slots=True)
class RequestRecord:
    """A request and its response, without their text: no query, header or body.

    `client` is the network address, `key` the name of the API key. `error` is the code of the error that was sent;
    `complete` is False while the response has not been sent to its end. Times are seconds of the monotonic clock.
    """

    id: str
    client: str = "-"
    method: str = "-"
    path: str = "-"
    key: str = ""
    status: int = 0
    error: str = ""
    complete: bool = False
    start: float = field(default_factory=time.monotonic)
    first_token: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields of a line of the log, with the durations in seconds."""
        fields = {
            "id": self.id,
            "client": self.client,
            "key": self.key,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "seconds": round(time.monotonic() - self.start, 4),
            "error": self.error,
            "complete": self.complete,
        }
        if self.first_token is not None:
            fields["first_token_seconds"] = round(self.first_token - self.start, 4)
        return {name: value for name, value in fields.items() if value != ""}


def record_error(scope: Scope, code: str | None) -> None:
    """Note the code of the error that a request is answered with."""
    if (record := scope.get(RECORD)) is not None:
        record.error = code or ""


def record_first_token(scope: Scope) -> None:
    """Note that the first event of a reply has arrived."""
    if (record := scope.get(RECORD)) is not None:
        record.first_token = time.monotonic()
