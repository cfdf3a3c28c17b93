"""Errors in the format of OpenAI's API: {"error": {"message", "type", "param", "code"}} under an HTTP status."""

import traceback
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.responses import JSONResponse

from runtime.errors import (
    BackendError,
    EdgeError,
    PromptTooLong,
    RequestError,
    TemplateError,
    ToolError,
    UnsupportedSetting,
)

from .logs.log import LOG

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}
RETRY_AFTER = 5  # seconds after which a client should retry


class ErrorDetail(BaseModel):
    """The fields of an error, as OpenAI's API has them."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """The body of every response with a status of 400 or more."""

    error: ErrorDetail


class ApiError(Exception):
    """An error with an HTTP status. `param` is the invalid field of the request, `code` an identifier for programs."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """Return the error as the JSON object that OpenAI's clients parse."""
        kind = _TYPES.get(self.status, "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self, body: "ErrorFormat | None" = None) -> JSONResponse:
        """Return the error as a response, with the body of an API's own format or OpenAI's. That of a busy server has
        the header Retry-After, that of a missing key WWW-Authenticate."""
        headers: Mapping[str, str] = {"Retry-After": str(RETRY_AFTER)} if self.status in (429, 503) else {}
        if self.status == 401:
            headers = {"WWW-Authenticate": "Bearer"}
        return JSONResponse(body(self) if body else self.body(), self.status, headers)


ErrorFormat = Callable[[ApiError], Mapping[str, Any]]  # an API's JSON object for an error


def server_stopping() -> ApiError:
    """Return the error for every request that a stopping server does not answer."""
    return ApiError(503, "the server is stopping", code="stopping")


def to_api_error(exc: BaseException) -> ApiError:
    """Map an exception to the error that the client sees. The message of an unexpected exception is not disclosed."""
    match exc:
        case ApiError():
            return exc
        case ValidationError():
            found = exc.errors(include_url=False, include_input=False, include_context=False)
            field = found[0]["loc"][:1]  # of a union's branches, report the one that matched furthest
            error = max((error for error in found if error["loc"][:1] == field), key=lambda error: len(error["loc"]))
            param = _field_path(error["loc"])
            return ApiError(400, f"{param or 'the body'}: {error['msg']}", param=param, code="invalid_value")
        case PromptTooLong():
            return context_overflow(exc, "messages")
        case UnsupportedSetting():
            return ApiError(400, _message(exc), param=exc.setting, code="unsupported_parameter")
        case RequestError() | TemplateError() | ToolError():
            return ApiError(400, _message(exc), code="invalid_value")
        case BackendError():
            return ApiError(503, _message(exc), code="engine_failed")
        case EdgeError():
            return ApiError(500, _message(exc), code="model_failed")
    return ApiError(500, "the server failed: see its log", code="internal_error")


def report_error(exc: Exception) -> ApiError:
    """Map an exception to the error that the client sees, and log it if the fault is the server's: its type and place,
    since its message may quote a user."""
    error = to_api_error(exc)
    if error.code == "internal_error":
        LOG.error("%s\n%s", type(exc).__name__, "".join(traceback.format_tb(exc.__traceback__)))
    elif error.status >= 500:
        LOG.error("%s", error)
    _clear_frames(exc)
    return error


def _clear_frames(exc: BaseException | None) -> None:
    """Clear the local variables of the frames in an error's traceback, such as a body: frames and error refer to each
    other, and would keep it alive until the garbage collector runs."""
    while exc is not None:
        traceback.clear_frames(exc.__traceback__)
        exc = exc.__cause__ or exc.__context__


def context_overflow(exc: PromptTooLong, param: str) -> ApiError:
    """Return the error of a prompt in the field `param`, in OpenAI's words: agents look for "maximum context length"
    and the numbers, and shorten the chat."""
    counted = f"{'more than ' if exc.cut else ''}{exc.prompt_tokens} tokens"
    message = (
        f"This model's maximum context length is {exc.limit} tokens. However, your messages resulted in {counted}. "
        "Please reduce the length of the messages."
    )
    overflow = ApiError(400, message, param=param, code="context_length_exceeded")
    overflow.__cause__ = exc  # has the numbers, for the words of another API
    return overflow


def _message(exc: EdgeError) -> str:
    return f"{exc}; {exc.hint}" if exc.hint else str(exc)


def _field_path(loc: tuple[int | str, ...]) -> str | None:
    """Format a location as OpenAI does, such as messages[0].content, without the names of a union's branches."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif path.endswith(f".{part}"):
            continue
        elif part.isidentifier() and part not in ("str", "int", "bool") and part[0].islower():
            path += f".{part}" if path else part
    return path or None
