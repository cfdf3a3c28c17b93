"""The bounded store of responses and conversations: in memory, or in a file; the least recently used are dropped."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any, Literal, Protocol

Item = dict[str, Any]
Kind = Literal["response", "conversation"]

COUNT = 1_000  # records
NBYTES = 64 * 2**20  # of their JSON


@dataclass(frozen=True, slots=True)
class Record:
    """A response or a conversation of the client `owner`.

    `body` is the object that the API returns. `items` are the conversation's, or the response's input; a response also
    has its output in the body. `previous` is the id of the response before it.
    """

    id: str
    owner: str
    kind: Kind
    body: dict[str, Any]
    items: Sequence[Item] = field(default=())
    previous: str | None = None

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
        return cls(id, owner, **json.loads(content))


class Store(Protocol):
    """A bounded store of records. A client sees its own alone. Threads may share it."""

    def get(self, owner: str, id: str) -> Record | None:
        """Return the record, and count it as used; None if there is none."""
        ...

    def put(self, record: Record) -> bool:
        """Store the record in place of any of its id, and drop the least recently used ones that have no room any more.
        Return False for a record that is larger than the whole store, which is not stored."""
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


class MemoryStore:
    """A store that ends with the process: `count` records of `nbytes` together at most."""

    def __init__(self, count: int = COUNT, nbytes: int = NBYTES) -> None:
        self._count = count
        self._nbytes = nbytes
        self._used = 0
        self._lock = RLock()
        self._records: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._items: dict[tuple[str, str], str] = {}  # the record of each item

    def get(self, owner: str, id: str) -> Record | None:
        """Return the record, and count it as used."""
        with self._lock:
            content = self._records.get((owner, id))
            if content is None:
                return None
            self._records.move_to_end((owner, id))
        return Record.decode(id, owner, content)

    def put(self, record: Record) -> bool:
        """Store the record, and drop those that have no room any more."""
        content = record.encode()
        if len(content) > self._nbytes:
            return False
        with self._lock:
            self._drop((record.owner, record.id))
            self._records[record.owner, record.id] = content
            self._used += len(content)
            for item in record.all_items:
                self._items[record.owner, item["id"]] = record.id
            while self._used > self._nbytes or len(self._records) > self._count:
                self._drop(next(iter(self._records)))
        return True

    def delete(self, owner: str, id: str) -> bool:
        """Delete the record."""
        with self._lock:
            return self._drop((owner, id))

    def find_item(self, owner: str, id: str) -> Item | None:
        """Return the item of any of the owner's records."""
        with self._lock:
            record = self._items.get((owner, id))
            found = None if record is None else self.get(owner, record)
        return None if found is None else find_by_id(found, id)

    def append(self, owner: str, id: str, items: Iterable[Item]) -> bool:
        """Add items to a conversation."""
        with self._lock:
            found = self.get(owner, id)
            return found is not None and self.put(with_items(found, items))

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._records.clear()
            self._items.clear()

    def _drop(self, key: tuple[str, str]) -> bool:
        content = self._records.pop(key, None)
        if content is None:
            return False
        owner, id = key
        self._used -= len(content)
        for item in Record.decode(id, owner, content).all_items:
            if self._items.get((owner, item["id"])) == id:
                del self._items[owner, item["id"]]
        return True


def open_store(path: str | Path | None, count: int = COUNT, nbytes: int = NBYTES) -> Store:
    """Open the store: in memory, or the SQLite file of that path. Raises RequestError for a file that is not one."""
    if not path:
        return MemoryStore(count, nbytes)
    from .sqlite_store import SqliteStore

    return SqliteStore(Path(path), count, nbytes)
