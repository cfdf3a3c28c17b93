"""A record of the store, a response or a conversation, and the protocol of stores."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Item = dict[str, Any]
Kind = Literal["response", "conversation"]


@dataclass(frozen=True, slots=True)
class Record:
    """A response or a conversation of the client `owner`.

    `body` is the object that the API returns. `items` are the conversation's, or the response's input; a response also
    has its output in the body. `previous` is the id of the response before it. `nbytes` is the size of what was stored.
    """

    id: str
    owner: str
    kind: Kind
    body: dict[str, Any]
    items: Sequence[Item] = field(default=())
    previous: str | None = None
    nbytes: int = field(default=0, compare=False)

    @property
    def all_items(self) -> list[Item]:
        """The items that the record contributes to a context: a response's input and output."""
        return [*self.items, *self.body.get("output", ())]

    def encode(self) -> bytes:
        """Return the record's content as JSON."""
        content = {"kind": self.kind, "body": self.body, "items": list(self.items), "previous": self.previous}
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")

    @classmethod
    def decode(cls, id: str, owner: str, content: bytes) -> "Record":
        """Return the record of `encode`d content."""
        return cls(id, owner, **json.loads(content), nbytes=len(content))


class Store(Protocol):
    """A bounded store of records. A client sees its own alone. Where there is no room, whoever has most in the store
    loses the record that was used longest ago. Threads may share it."""

    def get(self, owner: str, id: str) -> Record | None:
        """Return the record, and count it as used; None if there is none."""
        ...

    def put(self, record: Record) -> bool:
        """Store the record in place of any of its id, and drop others that have no room any more.
        Return False if it is too large to be stored itself."""
        ...

    def delete(self, owner: str, id: str) -> bool:
        """Delete the record. Return whether there was one."""
        ...

    def find_item(self, owner: str, id: str) -> Item | None:
        """Return the item of that id in any of the owner's records."""
        ...

    def append(self, owner: str, id: str, items: Iterable[Item]) -> bool:
        """Add items to the end of a conversation. Return False if there is none, or if it grows too large."""
        ...

    def close(self) -> None:
        """Close the store."""
        ...


def find_by_id(record: Record, id: str) -> Item | None:
    """Return the record's item of that id."""
    return next((item for item in record.all_items if item.get("id") == id), None)


def with_items(record: Record, items: Iterable[Item]) -> Record:
    """Return the record with items added to its end."""
    return Record(record.id, record.owner, record.kind, record.body, [*record.items, *items], record.previous)
