"""Pages of a list, as OpenAI's API has them: `limit` objects that come after the one with the id `after`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import Field

from ..errors import ApiError
from ..generation.fields import RequestModel


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_HasId)


class ListQuery(RequestModel):
    """The parameters of a list's query."""

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=10_000)] | None = None
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None

    def page(self, items: Sequence[T], limit: int) -> tuple[Sequence[T], bool]:
        """Return the page of items, the oldest of which come first, and whether more follow. `limit` is the default.
        Raises ApiError if the item `after` is not among them."""
        ordered = list(items) if self.order == "asc" else [*reversed(items)]
        start = 0
        if self.after is not None:
            ids = [item.id for item in ordered]
            if self.after not in ids:
                raise ApiError(400, "after is not in the list", param="after", code="invalid_value")
            start = ids.index(self.after) + 1
        end = start + (self.limit or limit)
        return ordered[start:end], end < len(ordered)


def page_json(data: Sequence[Mapping[str, Any]], has_more: bool) -> dict[str, Any]:
    """Return a page as the JSON object that OpenAI's clients parse."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}
