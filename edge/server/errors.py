"""Errors as OpenAI's clients know them: {"error": {"message", "type", "param", "code"}} under a status."""

from collections.abc import Mapping
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

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
RETRY_AFTER = 5  # seconds after which a client that was turned away may ask again


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """What comes with every status from 400 on."""

    error: ErrorDetail


class ApiError(Exception):
    """An answer with this status. `param` is the field of the request that is wrong, `code` a word for programs."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers: Mapping[str, str] = {"Retry-After": str(RETRY_AFTER)} if self.status in (429, 503) else {}
        return JSONResponse(self.body(), self.status, headers)


def server_stopping() -> ApiError:
    return ApiError(503, "the server is stopping", code="stopping")


def to_api_error(exc: BaseException) -> ApiError:
    """The answer to what went wrong. What is not known to be harmless tells nothing of itself."""
    match exc:
        case ApiError():
            return exc
        case ValidationError():
            found = exc.errors(include_url=False, include_input=False, include_context=False)
            field = found[0]["loc"][:1]  # of a union's branches, the one that came furthest
            error = max((error for error in found if error["loc"][:1] == field), key=lambda error: len(error["loc"]))
            param = _field_path(error["loc"])
            return ApiError(400, f"{param or 'the body'}: {error['msg']}", param=param, code="invalid_value")
        case PromptTooLong():
            return ApiError(400, _message(exc), param="messages", code="context_length_exceeded")
        case UnsupportedSetting():
            return ApiError(400, _message(exc), param=exc.setting, code="unsupported_parameter")
        case RequestError() | TemplateError() | ToolError():
            return ApiError(400, _message(exc), code="invalid_value")
        case BackendError():
            return ApiError(503, _message(exc), code="engine_failed")
        case EdgeError():
            return ApiError(500, _message(exc), code="model_failed")
    return ApiError(500, "the server failed; its log names the place", code="internal_error")


def _message(exc: EdgeError) -> str:
    return f"{exc}; {exc.hint}" if exc.hint else str(exc)


def _field_path(loc: tuple[int | str, ...]) -> str | None:
    """messages[0].content, as OpenAI writes it. The names of a union's branches are no part of it."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif path.endswith(f".{part}"):
            continue
        elif part.isidentifier() and part not in ("str", "int", "bool") and part[0].islower():
            path += f".{part}" if path else part
    return path or None
