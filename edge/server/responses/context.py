"""The context of a response: what came before it, by previous_response_id, conversation or item_reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ApiError
from .items import REFERENCE, to_items
from .request import ContextFields
from .store.record import Item, Record, Store


@dataclass(frozen=True, slots=True)
class Context:
    """The items of earlier responses, and those of this one's input with their references resolved. `previous` and
    `conversation` are the ids under which the earlier ones were stored."""

    earlier: tuple[Item, ...]
    given: tuple[Item, ...]
    previous: str | None = None
    conversation: str | None = None

    @property
    def items(self) -> list[Item]:
        """All items, in their order."""
        return [*self.earlier, *self.given]


def resolve_context(body: ContextFields, store: Store, owner: str, nbytes: int) -> Context:
    """Return the context of a request, of which `nbytes` at most come from the store. Reading the store may block.
    Raises ApiError for an id that is not stored."""
    if body.previous_response_id and body.conversation:
        message = "previous_response_id and conversation are mutually exclusive: send one"
        raise ApiError(400, message, param="previous_response_id", code="mutually_exclusive_parameters")
    earlier: list[Item] = []
    conversation = conversation_id(body.conversation) if body.conversation else None
    if body.previous_response_id:
        earlier = _read_chain(store, owner, body.previous_response_id, nbytes)
    elif conversation:
        found = get_conversation(store, owner, conversation, param="conversation")
        _check_size(found.nbytes, nbytes, "conversation")
        earlier = list(found.items)
    given = _resolve_references(to_items(body.input or ()), earlier, store, owner)
    if not earlier and not given:
        raise ApiError(400, "input is missing", param="input", code="missing_required_parameter")
    return Context(tuple(earlier), tuple(given), body.previous_response_id or None, conversation)


def conversation_id(conversation: "str | Mapping[str, Any]") -> str:
    """Return the id in the field `conversation`, which is a text or an object. Raises ApiError."""
    found = conversation.get("id") if isinstance(conversation, Mapping) else conversation
    if not isinstance(found, str):
        raise ApiError(400, "conversation: its id is missing", param="conversation.id", code="invalid_value")
    return found


def get_conversation(store: Store, owner: str, id: str, param: str | None = None) -> Record:
    """Return the conversation. Raises ApiError (404)."""
    found = store.get(owner, id)
    if found is None or found.kind != "conversation":
        raise ApiError(404, f"Conversation with id {id[:100]!r} not found.", param=param, code="not_found")
    return found


def _read_chain(store: Store, owner: str, last: str, nbytes: int) -> list[Item]:
    """Return the items of a response and of all before it. The last is counted as used before the first, so that a
    chain that has no room any more loses its end, and not what the rest of it needs."""
    chain: list[Record] = []
    wanted: str | None = last
    while wanted is not None:
        record = store.get(owner, wanted)
        if record is None or record.kind != "response":
            before = f", which came before {last!r}," if chain else ""
            message = f"Previous response with id {wanted[:100]!r}{before} not found."
            raise ApiError(400, message, param="previous_response_id", code="previous_response_not_found")
        if record.body.get("conversation"):
            message = f"the response {wanted} belongs to a conversation: send that as `conversation`"
            raise ApiError(400, message, param="previous_response_id", code="invalid_value")
        chain.append(record)
        _check_size(sum(one.nbytes for one in chain), nbytes, "previous_response_id")
        wanted = record.previous
    return [item for record in reversed(chain) for item in record.all_items if _is_whole(item)]


def _check_size(nbytes: int, limit: int, param: str) -> None:
    """Raise ApiError for more stored bytes than a request's body may have: rendering them takes as long."""
    if nbytes > limit:
        message = f"{param}: the conversation has more than {limit:,} bytes; start a new one, or compact it"
        raise ApiError(400, message, param=param, code="context_length_exceeded")


def _is_whole(item: Item) -> bool:
    """Return whether the item is part of later contexts. A call that was cut off has no output."""
    return not (item["type"] in ("function_call", "custom_tool_call") and item.get("status") == "incomplete")


def _resolve_references(given: list[Item], earlier: list[Item], store: Store, owner: str) -> list[Item]:
    """Return the items with each reference replaced by what it names, unless that is in the context already."""
    known = {item["id"] for item in (*earlier, *given) if item["type"] != REFERENCE}
    found = []
    for index, item in enumerate(given):
        if item["type"] != REFERENCE:
            found.append(item)
        elif item["id"] not in known:
            known.add(item["id"])
            stored = store.find_item(owner, item["id"])
            if stored is None:
                cause = "Items are not stored for ever, nor with `store` set to false: send the item itself."
                message = f"Item with id {item['id'][:100]!r} not found. {cause}"
                raise ApiError(404, message, param=f"input[{index}]", code="not_found")
            if _is_whole(stored):
                found.append(stored)
    return found
