"""/v1/conversations: contexts of their own, to which each response adds its input and output."""

import asyncio
import time
from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.fields import RequestModel
from ..guard.body import read_body
from ..limits import Limits
from ..pool.dispatcher import Dispatcher
from .context import get_conversation
from .items import REFERENCE, to_items, to_messages
from .listing import ItemPage, PageQuery, page_of, to_page
from .request import Metadata
from .store.access import owner_of, store_of
from .store.record import Item, Record, find_by_id

Items = Annotated[list[dict[str, Any]], Field(max_length=20)]


class ConversationRequest(RequestModel):
    """A request to create a conversation, with its first items."""

    items: Items | None = None
    metadata: Metadata | None = None


class MetadataRequest(RequestModel):
    """A request to replace a conversation's metadata."""

    metadata: Metadata | None


class ItemsRequest(RequestModel):
    """A request to add items to a conversation."""

    items: Items


class Conversation(BaseModel):
    """A conversation."""

    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: dict[str, str]


class DeletedConversation(BaseModel):
    """The id of a conversation that was deleted."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: Literal[True] = True


class ConversationItem(RequestModel):
    """An item of a conversation, with the fields of its type."""

    id: str
    type: str


async def create_conversation(dispatcher: Dispatcher, request: Request) -> Response:
    """Create a conversation."""
    body = await read_body(request, ConversationRequest)
    new = Conversation(id=f"conv_{uuid4().hex}", created_at=int(time.time()), metadata=body.metadata or {})
    items = _new_items(body.items or [], dispatcher.limits)
    await _put(request, Record(new.id, owner_of(request), "conversation", new.model_dump(), items))
    return JSONResponse(new.model_dump())


async def retrieve_conversation(dispatcher: Dispatcher, request: Request) -> Response:
    """Return a conversation."""
    return JSONResponse((await _find(request)).body)


async def update_conversation(dispatcher: Dispatcher, request: Request) -> Response:
    """Replace a conversation's metadata."""
    body = await read_body(request, MetadataRequest)
    found = await _find(request)
    changed = replace(found, body=found.body | {"metadata": body.metadata or {}})
    await _put(request, changed)
    return JSONResponse(changed.body)


async def delete_conversation(dispatcher: Dispatcher, request: Request) -> Response:
    """Delete a conversation with its items."""
    found = await _find(request)
    await asyncio.to_thread(store_of(request).delete, found.owner, found.id)
    return JSONResponse(DeletedConversation(id=found.id).model_dump())


async def list_items(dispatcher: Dispatcher, request: Request) -> Response:
    """Return a page of a conversation's items."""
    return JSONResponse(page_of((await _find(request)).items, request).model_dump())


async def create_items(dispatcher: Dispatcher, request: Request) -> Response:
    """Add items to the end of a conversation."""
    body = await read_body(request, ItemsRequest)
    found = await _find(request)
    items = _new_items(body.items, dispatcher.limits)
    if not await asyncio.to_thread(store_of(request).append, found.owner, found.id, items):
        raise _too_large()
    return JSONResponse(to_page(items).model_dump())


async def retrieve_item(dispatcher: Dispatcher, request: Request) -> Response:
    """Return an item of a conversation."""
    return JSONResponse(_find_item(await _find(request), request.path_params["item_id"]))


async def delete_item(dispatcher: Dispatcher, request: Request) -> Response:
    """Delete an item of a conversation, and return the conversation."""
    found = await _find(request)
    item = _find_item(found, request.path_params["item_id"])
    await _put(request, replace(found, items=[kept for kept in found.items if kept is not item]))
    return JSONResponse(found.body)


def _new_items(given: list[dict[str, Any]], limits: Limits) -> list[Item]:
    """Return the items of a request. Raises ApiError for one that the model could not read later."""
    items = to_items(given, "items")
    try:
        to_messages(None, items, limits)
    except ApiError as exc:
        raise ApiError(exc.status, str(exc), param="items", code=exc.code) from exc
    if any(item["type"] == REFERENCE for item in items):
        raise ApiError(400, "items: a conversation takes items, no references", param="items", code="invalid_value")
    return items


def _find_item(conversation: Record, id: str) -> Item:
    found = find_by_id(conversation, id)
    if found is None:
        raise ApiError(404, f"Item with id {id[:100]!r} not found.", code="not_found")
    return found


async def _find(request: Request) -> Record:
    id = request.path_params["conversation_id"]
    return await asyncio.to_thread(get_conversation, store_of(request), owner_of(request), id)


async def _put(request: Request, record: Record) -> None:
    if not await asyncio.to_thread(store_of(request).put, record):
        raise _too_large()


def _too_large() -> ApiError:
    return ApiError(413, "the conversation is larger than the server's store of responses", code="too_large")


_PATH = "/v1/conversations"
_ONE = f"{_PATH}/{{conversation_id}}"
ENDPOINTS = (
    Endpoint("POST", _PATH, create_conversation, ConversationRequest, Conversation, pictures=True),
    Endpoint("GET", _ONE, retrieve_conversation, response_model=Conversation),
    Endpoint("POST", _ONE, update_conversation, MetadataRequest, Conversation),
    Endpoint("DELETE", _ONE, delete_conversation, response_model=DeletedConversation),
    Endpoint("GET", f"{_ONE}/items", list_items, response_model=ItemPage, query_model=PageQuery),
    Endpoint("POST", f"{_ONE}/items", create_items, ItemsRequest, ItemPage, pictures=True),
    Endpoint("GET", f"{_ONE}/items/{{item_id}}", retrieve_item, response_model=ConversationItem),
    Endpoint("DELETE", f"{_ONE}/items/{{item_id}}", delete_item, response_model=Conversation),
)
