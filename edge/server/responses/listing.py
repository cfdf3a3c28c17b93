"""Pages of items, as OpenAI's lists have them: `order`, `limit`, `after`."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request

from ..errors import ApiError
from ..generation.fields import RequestModel
from .store.record import Item


class PageQuery(RequestModel):
    """The query of a list: up to `limit` items after the one with the id `after`."""

    order: Literal["asc", "desc"] = "desc"
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: str | None = None


class ItemPage(BaseModel):
    """A page of items."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


def page_of(items: Sequence[Item], request: Request) -> ItemPage:
    """Return the page that the request's query asks for. Raises ApiError or ValidationError for an invalid query."""
    query = PageQuery.model_validate(dict(request.query_params))
    ordered = list(items if query.order == "asc" else reversed(items))
    start = 0
    if query.after is not None:
        ids = [item["id"] for item in ordered]
        if query.after not in ids:
            raise ApiError(400, f"after: there is no item {query.after[:100]!r}", param="after", code="invalid_value")
        start = ids.index(query.after) + 1
    return to_page(ordered[start : start + query.limit], has_more=len(ordered) > start + query.limit)


def to_page(items: Sequence[Item], *, has_more: bool = False) -> ItemPage:
    """Return a page of these items."""
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    return ItemPage(data=list(items), first_id=first, last_id=last, has_more=has_more)
