"""The store of responses that ends with the process."""

from collections import OrderedDict
from collections.abc import Iterable
from threading import RLock

from .record import Item, Record, find_by_id, with_items


class _Owned:
    """The records of a client, the least recently used first, and where each of their items is."""

    def __init__(self) -> None:
        self.nbytes = 0
        self.records: OrderedDict[str, bytes] = OrderedDict()
        self.items: dict[str, str] = {}


class MemoryStore:
    """A store that ends with the process: `count` records of `nbytes` together at most."""

    def __init__(self, count: int, nbytes: int) -> None:
        self._count = count
        self._nbytes = nbytes
        self._lock = RLock()
        self._owners: dict[str, _Owned] = {}

    def get(self, owner: str, id: str) -> Record | None:
        """Return the record, and count it as used."""
        with self._lock:
            owned = self._owners.get(owner)
            content = owned.records.get(id) if owned else None
            if owned is None or content is None:
                return None
            owned.records.move_to_end(id)
        return Record.decode(id, owner, content)

    def put(self, record: Record) -> bool:
        """Store the record, and drop those that have no room any more."""
        content = record.encode()
        if len(content) > self._nbytes or not self._count:
            return False
        with self._lock:
            self._drop(record.owner, record.id)
            owned = self._owners.setdefault(record.owner, _Owned())
            owned.records[record.id] = content
            owned.nbytes += len(content)
            owned.items |= {item["id"]: record.id for item in record.all_items}
            while sum(each.nbytes for each in self._owners.values()) > self._nbytes:
                self._drop_oldest(max(self._owners, key=lambda name: self._owners[name].nbytes))
            while sum(len(each.records) for each in self._owners.values()) > self._count:
                self._drop_oldest(max(self._owners, key=lambda name: len(self._owners[name].records)))
            return record.id in owned.records

    def delete(self, owner: str, id: str) -> bool:
        """Delete the record."""
        with self._lock:
            return self._drop(owner, id)

    def find_item(self, owner: str, id: str) -> Item | None:
        """Return the item of any of the owner's records."""
        with self._lock:
            record = self._owners[owner].items.get(id) if owner in self._owners else None
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
            self._owners.clear()

    def _drop_oldest(self, owner: str) -> None:
        self._drop(owner, next(iter(self._owners[owner].records)))

    def _drop(self, owner: str, id: str) -> bool:
        owned = self._owners.get(owner)
        content = owned.records.pop(id, None) if owned else None
        if owned is None or content is None:
            return False
        owned.nbytes -= len(content)
        for item in Record.decode(id, owner, content).all_items:
            if owned.items.get(item["id"]) == id:
                del owned.items[item["id"]]
        if not owned.records:
            del self._owners[owner]
        return True
