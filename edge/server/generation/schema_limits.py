"""The limit on the size of a client's schema or grammar."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ApiError
from ..limits import Limits


def check_size(grammar: Mapping[str, Any] | Sequence[str] | str, limits: Limits, param: str) -> None:
    """Raise ApiError for a JSON schema, or another grammar, that is larger than the limit. `param` is the field of the
    request that has it."""
    text = grammar if isinstance(grammar, str) else json.dumps(grammar, ensure_ascii=False)
    if len(text.encode(errors="surrogatepass")) > limits.schema_bytes:
        message = f"{param} is larger than {limits.schema_bytes:,} bytes"
        raise ApiError(400, message, param=param, code="schema_too_large")
