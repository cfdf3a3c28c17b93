"""Counting the values and levels of a JSON body in its bytes, before any object is built from it."""

import json
import time

from ..errors import ApiError

MAX_VALUES = 150_000  # enough for the ids of a long context; the Python object of each has up to 300 bytes
MAX_DEPTH = 200  # as in strict_json
_SLICE = 2**16  # bytes that are counted before other threads may run
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def count_values(content: bytes) -> int:
    """Return the approximate number of JSON values in the body. Raises ApiError for more than `MAX_VALUES` (413) or
    more than `MAX_DEPTH` levels (400)."""
    if (encoding := json.detect_encoding(content)) not in ("utf-8", "utf-8-sig"):
        content = content.decode(encoding, "replace").encode(errors="replace")
    count, depth, quoted, start = 0, 0, 0, 0
    while start < len(content):
        end = start + _SLICE
        while content[end - 1 : end] == b"\\":  # what it escapes belongs to it
            end += 1
        part = content[start:end].replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        outside = b"".join(part[quoted::2])
        quoted = (quoted + len(part) - 1) % 2
        start = end
        count += sum(map(outside.count, (b",", b"[", b"{")))
        if count > MAX_VALUES:
            raise ApiError(413, f"the body has more than {MAX_VALUES:,} values", code="too_large")
        for bracket in outside.translate(None, _NOT_BRACKETS):
            depth += 1 if bracket in b"[{" else -1
            if depth > MAX_DEPTH:
                raise ApiError(
                    400, f"the body is not JSON: it is nested more than {MAX_DEPTH} levels deep", code="invalid_value"
                )
        time.sleep(0)
    return count
