"""The store of responses that ends with the process."""

from collections import OrderedDict
from collections.abc import Iterable
from threading import RLock

from .record import Item, Record, find_by_id, with_items


class MemoryStore:
    """A store that ends with the process: `count` records of `nbytes` together at most."""

    def __init__(self, count: int, nbytes: int) -> None:
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
