"""Errors in the format of Anthropic's API: {"type": "error", "error": {"type", "message"}} under an HTTP status."""

from typing import Any, Literal

from pydantic import BaseModel

from runtime.errors import PromptTooLong

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


class MessagesErrorDetail(BaseModel):
    """An error's category and its description."""

    type: str
    message: str


class MessagesError(BaseModel):
    """The body of every response with a status of 400 or more."""

    type: Literal["error"]
    error: MessagesErrorDetail


def error_body(error: ApiError) -> dict[str, Any]:
    """Return the error as the JSON object that Anthropic's clients parse. Its message names the invalid field. A prompt
    that is too long is rejected in Anthropic's words: Claude Code reads them, and compacts the conversation."""
    message, cause = str(error), error.__cause__
    if isinstance(cause, PromptTooLong):
        message = f"prompt is too long: {cause.prompt_tokens} tokens > {cause.limit} maximum"
    elif error.param is not None and error.param not in message:
        message = f"{error.param}: {message}"
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}
