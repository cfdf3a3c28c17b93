"""A batch of /v1/batches: its status, its counts and its times, as OpenAI's API has them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel

from .request_file import InvalidLine

WINDOW_SECONDS = 24 * 3600
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
_ENDED = ("failed", "completed", "expired", "cancelled")
_PASSING = ("in_progress", "finalizing", "cancelling")  # validating is created_at


class BatchError(BaseModel):
    """A reason why a batch failed, with the line of its input file."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(BaseModel):
    """The reasons why a batch failed."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    """The number of requests: all, those that were answered, those that failed."""

    total: int
    completed: int
    failed: int


class BatchObject(BaseModel):
    """A batch. Times are Unix timestamps."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


@dataclass(slots=True, kw_only=True)
class BatchRecord:
    """A batch of a client. `times` has the Unix timestamp at which it got each status."""

    client: str
    endpoint: str
    input_file_id: str
    content: bytes
    metadata: Mapping[str, str] | None
    output_seconds: int
    id: str = field(default_factory=lambda: f"batch_{uuid4().hex}")
    created_at: int = field(default_factory=lambda: int(time.time()))
    status: Status = "validating"
    errors: Sequence[BatchError] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    times: dict[str, int] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
        return self.status in _ENDED

    def set_status(self, status: Status) -> None:
        """Change the status, and note the time. The content of the input is let go at the end."""
        self.status = status
        self.times[status] = int(time.time())
        if self.ended:
            self.content = b""

    def fail(self, errors: Sequence[BatchError]) -> None:
        """End the batch with these errors."""
        self.errors = errors
        self.set_status("failed")

    def to_json(self) -> dict[str, Any]:
        """Return the batch as the JSON object that OpenAI's clients parse."""
        times: dict[str, Any] = {f"{status}_at": self.times.get(status) for status in (*_ENDED, *_PASSING)}
        return BatchObject(
            id=self.id,
            endpoint=self.endpoint,
            errors=BatchErrors(data=list(self.errors)) if self.errors else None,
            input_file_id=self.input_file_id,
            status=self.status,
            output_file_id=self.output_file_id,
            error_file_id=self.error_file_id,
            created_at=self.created_at,
            expires_at=self.created_at + WINDOW_SECONDS,
            request_counts=RequestCounts(total=self.total, completed=self.completed, failed=self.failed),
            metadata=dict(self.metadata) if self.metadata is not None else None,
            **times,
        ).model_dump()


def errors_of(lines: Sequence[InvalidLine]) -> list[BatchError]:
    """Return the errors of lines that are not requests."""
    return [BatchError(code=line.code, line=line.line, message=line.message, param=line.param) for line in lines]
