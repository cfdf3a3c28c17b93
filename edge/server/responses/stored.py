"""GET and DELETE /v1/responses/{id}, and its input items."""

import asyncio
from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..endpoint import Endpoint
from ..errors import ApiError
from ..pool.dispatcher import Dispatcher
from .create import ResponsesReply
from .listing import ItemPage, PageQuery, page_of
from .store.access import owner_of, store_of
from .store.record import Record


class DeletedResponse(BaseModel):
    """The id of a response that was deleted."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


async def get_response(dispatcher: Dispatcher, request: Request) -> Response:
    """Return a stored response."""
    if request.query_params.get("stream", "false").lower() not in ("false", "0"):
        message = "stream is not supported here: a stored response is returned as a whole"
        raise ApiError(400, message, param="stream", code="unsupported_parameter")
    return JSONResponse((await _find(request)).body)


async def delete_response(dispatcher: Dispatcher, request: Request) -> Response:
    """Delete a stored response. Those after it lose their context."""
    found = await _find(request)
    await asyncio.to_thread(store_of(request).delete, found.owner, found.id)
    return JSONResponse(DeletedResponse(id=found.id).model_dump())


async def cancel_response(dispatcher: Dispatcher, request: Request) -> Response:
    """Reject the cancellation of a response that has ended, or that ends when its client disconnects."""
    found = await _find(request)
    message = f"the response {found.id} was not generated in the background: close its stream to cancel it"
    raise ApiError(400, message, code="invalid_value")


async def list_input_items(dispatcher: Dispatcher, request: Request) -> Response:
    """Return a page of a stored response's input items."""
    return JSONResponse(page_of((await _find(request)).items, request).model_dump())


async def _find(request: Request) -> Record:
    id = request.path_params["response_id"]
    found = await asyncio.to_thread(store_of(request).get, owner_of(request), id)
    if found is None or found.kind != "response":
        raise ApiError(404, f"Response with id {id[:100]!r} not found.", code="not_found")
    return found


_PATH = "/v1/responses/{response_id}"
ENDPOINTS = (
    Endpoint("GET", _PATH, get_response, response_model=ResponsesReply),
    Endpoint("DELETE", _PATH, delete_response, response_model=DeletedResponse),
    Endpoint("POST", f"{_PATH}/cancel", cancel_response, response_model=ResponsesReply),
    Endpoint("GET", f"{_PATH}/input_items", list_input_items, response_model=ItemPage, query_model=PageQuery),
)
