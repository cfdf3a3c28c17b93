"""The result of a request of a batch, as a line of the output file in OpenAI's format."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from .request_file import BatchRequest, InvalidLine


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The response to a request: the HTTP status and the JSON body that the server would have sent."""

    request: BatchRequest
    status: int
    body: Any
    seconds: float = 0.0

    @property
    def succeeded(self) -> bool:
        """Whether the request was answered."""
        return self.status == 200

    @property
    def completion_tokens(self) -> int:
        """The number of generated tokens; 0 if the response has none."""
        usage = (self.body.get("usage") if isinstance(self.body, dict) else None) or {}
        return int(usage.get("completion_tokens") or usage.get("output_tokens") or 0)

    def to_line(self) -> bytes:
        """Return the line of the output file."""
        response = {"status_code": self.status, "request_id": f"req_{uuid4().hex}", "body": self.body}
        return _line(self.request.id, self.request.custom_id, response, None)


def invalid_line(invalid: InvalidLine) -> bytes:
    """Return the line of the output file for a line that is not a request."""
    error = {"code": invalid.code, "message": invalid.message, "param": invalid.param, "line": invalid.line}
    return _line(f"batch_req_line_{invalid.line}", invalid.custom_id, None, error)


def unanswered_line(request: BatchRequest, code: str, message: str) -> bytes:
    """Return the line of the error file for a request that was not run."""
    return _line(request.id, request.custom_id, None, {"code": code, "message": message})


def _line(id: str, custom_id: str | None, response: Any, error: Any) -> bytes:
    line = {"id": id, "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(line, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace") + b"\n"
