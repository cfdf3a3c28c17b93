"""Errors in the format of Anthropic's API: {"type": "error", "error": {"type", "message"}} under an HTTP status."""

from typing import Any

from ..errors import ApiError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def error_body(error: ApiError) -> dict[str, Any]:
    """Return the error as the JSON object that Anthropic's clients parse. Its message names the invalid field, and a
    prompt that is too long as Anthropic does: Claude Code then compacts the conversation."""
    message = str(error)
    if error.code == "context_length_exceeded":
        message = f"prompt is too long: {message}"
    elif error.param is not None and error.param not in message:
        message = f"{error.param}: {message}"
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}
