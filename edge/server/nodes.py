"""How many values a body of JSON has, and how deep they lie: counted in its bytes, before anything is built of them."""

import json
import re

from .errors import ApiError

NODES = 100_000  # values; a Python object of each takes up to 300 bytes
DEPTH = 200  # as strict_json
_STRING = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)  # or what begins as one and has no end
_OTHER = re.compile(rb"[^\[\]{}]+")


def check_nodes(content: bytes) -> None:
    """Raise ApiError for a body with more than `NODES` values, or nested deeper than `DEPTH`."""
    if (encoding := json.detect_encoding(content)) not in ("utf-8", "utf-8-sig"):
        content = content.decode(encoding, "replace").encode(errors="replace")
    outside = _STRING.sub(b"", content)
    depth = 0
    for bracket in _OTHER.sub(b"", outside)[: 2 * NODES]:
        depth += 1 if bracket in b"[{" else -1
        if depth > DEPTH:
            raise ApiError(400, f"the body is not JSON: it is nested more than {DEPTH} deep", code="invalid_value")
    if sum(map(outside.count, (b",", b"[", b"{"))) > NODES:
        raise ApiError(413, f"the body has more than {NODES:,} values", code="too_large")
