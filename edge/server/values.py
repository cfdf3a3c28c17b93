"""How many values a body of JSON has, and how deep they lie: counted in its bytes, before anything is built of them."""

import json
import re

from .errors import ApiError

VALUES = 150_000  # enough for the ids of a long context; a Python object of each takes up to 300 bytes
DEPTH = 200  # as strict_json
_STRING = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)  # or what begins as one and has no end
_OTHER = re.compile(rb"[^\[\]{}]+")


def count_values(content: bytes) -> int:
    """About how many values the body has. Raise ApiError for more than `VALUES`, and for more than `DEPTH` levels."""
    if (encoding := json.detect_encoding(content)) not in ("utf-8", "utf-8-sig"):
        content = content.decode(encoding, "replace").encode(errors="replace")
    outside = _STRING.sub(b"", content)
    depth = 0
    for bracket in _OTHER.sub(b"", outside)[: 2 * VALUES]:
        depth += 1 if bracket in b"[{" else -1
        if depth > DEPTH:
            raise ApiError(400, f"the body is not JSON: it is nested more than {DEPTH} deep", code="invalid_value")
    count = sum(map(outside.count, (b",", b"[", b"{")))
    if count > VALUES:
        raise ApiError(413, f"the body has more than {VALUES:,} values", code="too_large")
    return count
