"""A file of requests, as OpenAI's batch API has it: JSONL with custom_id, method, url and body on each line."""

import codecs
import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import IO, Any

from runtime import strict_json
from runtime.errors import RequestError

MAX_REQUESTS = 50_000  # as OpenAI has it
_MAX_ID = 512  # characters of a custom_id


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A request of the file: the place of its line, and `digest`, a hash of what it asks for and of the model that
    answers. Its body is not in memory: `RequestFile.read_body` reads it.
    """

    line: int
    offset: int
    size: int
    custom_id: str
    path: str
    model: str | None
    digest: str

    @property
    def id(self) -> str:
        """The id of the request in the output. It changes with the request."""
        return f"batch_req_{self.digest[:24]}"


@dataclass(frozen=True, slots=True)
class InvalidLine:
    """A line that is not a request: the reason, for people and (`code`, `param`) for programs."""

    line: int
    custom_id: str | None
    message: str
    code: str
    param: str | None = None


class RequestFile:
    """The requests of an open file, in its order, and the lines that are none.

    `paths` are the URLs that a request may have, `max_bytes` bounds a line. `answered_by` identifies the model that
    answers a request, from its `model`. Raises RequestError for a file that is not UTF-8 text, or that has too many
    requests.
    """

    def __init__(
        self,
        file: IO[bytes],
        paths: Collection[str],
        answered_by: Callable[[str | None], str],
        *,
        max_bytes: int,
        max_requests: int,
    ) -> None:
        self._file = file
        self._paths = paths
        self._answered_by = answered_by
        self._max_bytes = max_bytes
        self.requests: list[BatchRequest] = []
        self.invalid: list[InvalidLine] = []
        seen: dict[str, int] = {}
        for number, offset, content in self._lines():
            parsed = self._parse(number, offset, content)
            if isinstance(parsed, BatchRequest) and (first := seen.setdefault(parsed.custom_id, number)) != number:
                message = f"lines {first:,} and {number:,} have the same custom_id"
                parsed = InvalidLine(number, parsed.custom_id, message, "duplicate_custom_id", "custom_id")
            if isinstance(parsed, InvalidLine):
                self.invalid.append(parsed)
            else:
                self.requests.append(parsed)
            if len(self.requests) + len(self.invalid) > max_requests:
                raise RequestError(f"there are more than {max_requests:,} requests", hint="split the file")

    def read_body(self, request: BatchRequest) -> dict[str, Any]:
        """Return the body of a request."""
        self._file.seek(request.offset)
        body: dict[str, Any] = strict_json.parse(self._file.read(request.size))["body"]
        return body

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the number, the offset and the bytes of each line that is not blank. A line beyond the limit is cut."""
        self._file.seek(0)
        start = self._file.read(4)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise RequestError("the file is UTF-16", hint="save it as UTF-8")
        offset = len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0
        number = 0
        while True:
            self._file.seek(offset)
            content = self._file.readline(self._max_bytes + 1)
            if not content:
                return
            number += 1
            size = len(content)
            while not content.endswith(b"\n") and (rest := self._file.readline(2**16)):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
            if content.strip():
                yield number, offset, content
            offset += size

    def _parse(self, number: int, offset: int, content: bytes) -> BatchRequest | InvalidLine:
        if len(content) > self._max_bytes:
            return InvalidLine(number, None, f"the line is larger than {self._max_bytes:,} bytes", "too_large")
        try:
            value = strict_json.parse(content.strip())
        except ValueError as exc:
            return InvalidLine(number, None, f"the line is not JSON: {exc}", "invalid_json_line")
        if not isinstance(value, dict):
            return InvalidLine(number, None, "the line is not a JSON object", "invalid_json_line")
        custom_id = value.get("custom_id")
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _MAX_ID:
            message = f"custom_id must be a string of 1 to {_MAX_ID} characters"
            return InvalidLine(number, None, message, "invalid_value", "custom_id")
        for param, is_valid, message, code in self._checks(value):
            if not is_valid:
                return InvalidLine(number, custom_id, message, code, param)
        body, path = value["body"], value["url"]
        model = body.get("model") if isinstance(body.get("model"), str) else None
        asked = json.dumps([custom_id, path, self._answered_by(model), body], ensure_ascii=False, sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()
        return BatchRequest(number, offset, len(content), custom_id, path, model, digest)

    def _checks(self, value: dict[str, Any]) -> Iterator[tuple[str, bool, str, str]]:
        yield "method", value.get("method", "POST") == "POST", 'method must be "POST"', "invalid_method"
        paths = ", ".join(self._paths)
        yield "url", value.get("url") in self._paths, f"url must be one of {paths}", "invalid_url"
        yield "body", isinstance(value.get("body"), dict), "body must be a JSON object", "invalid_value"
