"""Reading a request's JSON body into its model, within the memory budget."""

import asyncio
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from runtime import strict_json

from ..errors import ApiError
from .body_budget import BudgetShare
from .guard import BUDGET_SHARE
from .json_values import count_values

_LARGE = 2**16  # bytes of a body that is parsed in a thread
M = TypeVar("M", bound=BaseModel)


async def read_body(request: Request, model: type[M]) -> M:
    """Parse and validate the body. Raises ApiError or ValidationError."""
    content = await request.body() or b"{}"
    large = len(content) > _LARGE
    share: BudgetShare = request.scope[BUDGET_SHARE]
    if not large:
        share.set_values(count_values(content))
        return _parse(content, model)
    async with share.parse_lock:
        share.set_values(await asyncio.to_thread(count_values, content))
        return await asyncio.to_thread(_parse, content, model)


def _parse(content: bytes, model: type[M]) -> M:
    try:
        value = strict_json.parse(content)
    except ValueError as exc:
        raise ApiError(400, f"the body is not JSON: {exc}", code="invalid_value") from exc
    return model.model_validate(value)
