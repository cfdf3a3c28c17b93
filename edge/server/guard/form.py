"""Reading a request's form: a file and the fields beside it."""

from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ..errors import ApiError

_MAX_NAME = 255  # characters of a file's name


class _Parser(MultiPartParser):
    """A parser that keeps the file in memory: the size of a body is bounded."""

    spool_max_size = 2**31


async def read_form(
    request: Request, *, max_fields: int = 8, field_bytes: int = 1000
) -> tuple[str, bytes, dict[str, Any]]:
    """Return the name and the content of the field `file` of a multipart form, and the other fields; one whose name
    ends with [] is a list, under the name without it. Raises ApiError."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(400, "the body must be multipart/form-data with the field file", code="invalid_value")
    parser = _Parser(request.headers, request.stream(), max_files=1, max_fields=max_fields, max_part_size=field_bytes)
    try:
        form = await parser.parse()
    except MultiPartException as exc:
        raise ApiError(400, f"the body is not a form: {exc.message}", code="invalid_value") from exc
    try:
        fields: dict[str, Any] = {}
        for name, value in form.multi_items():
            if name.endswith("[]"):
                fields.setdefault(name[:-2], []).append(value)
            else:
                fields[name] = value
        file = fields.pop("file", None)
        if not isinstance(file, UploadFile):
            raise ApiError(400, "the field file must be a file", param="file", code="missing_required_parameter")
        return (file.filename or "file")[:_MAX_NAME], await file.read(), fields
    finally:
        await form.close()
