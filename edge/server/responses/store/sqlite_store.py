"""The store of responses in a SQLite file: what was deleted or dropped is overwritten with zeros."""

import os
import sqlite3
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

from runtime.errors import RequestError

from ...errors import ApiError
from .record import Item, Record, find_by_id, with_items

_APPLICATION = 0x45444745  # "EDGE", in the file's header
_VERSION = 1  # of the schema
_SCHEMA = """
    CREATE TABLE records (
        owner TEXT NOT NULL, id TEXT NOT NULL, content BLOB NOT NULL, used INTEGER NOT NULL, PRIMARY KEY (owner, id)
    );
    CREATE INDEX records_used ON records (owner, used);
    CREATE TABLE items (
        owner TEXT NOT NULL, id TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (owner, id)
    ) WITHOUT ROWID;
    CREATE INDEX items_record ON items (owner, record);
"""
T = TypeVar("T")


def _transaction(method: Callable[..., T]) -> Callable[..., T]:
    """Run a method in a transaction. Raises ApiError if SQLite fails, such as on a full disk."""

    @wraps(method)
    def run(self: "SqliteStore", *args: Any) -> T:
        try:
            with self.lock, self.connection:
                return method(self, *args)
        except sqlite3.Error as exc:
            raise ApiError(503, f"the file of stored responses failed: {exc}", code="store_failed") from exc

    return run


class SqliteStore:
    """A store in the file `path`, which only its owner may read: `count` records of `nbytes` together at most.

    Raises RequestError if the file cannot be opened, is not such a store, or was written by a later version.
    """

    def __init__(self, path: Path, count: int, nbytes: int) -> None:
        self.lock = RLock()
        self._count = count
        self._nbytes = nbytes
        try:
            self._open(path)
        except (sqlite3.Error, OSError) as exc:
            raise RequestError(
                f"{path} cannot be opened as a store of responses: {exc}",
                hint="name a file of its own, in a folder that exists",
            ) from exc

    def _open(self, path: Path) -> None:
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self.connection = sqlite3.connect(path, check_same_thread=False, timeout=10)
        try:
            self._prepare(path)
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self, path: Path) -> None:
        """Check that the file is a store, or make one of an empty file."""
        application, version = (self._value(f"PRAGMA {name}") for name in ("application_id", "user_version"))
        tables = self._value("SELECT count(*) FROM sqlite_master")
        if tables and (application != _APPLICATION or version != _VERSION):
            cause = "was written by another version" if application == _APPLICATION else "belongs to another program"
            raise RequestError(f"{path} {cause}", hint="name another file for the store of responses")
        self.connection.execute("PRAGMA secure_delete = ON")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        if not tables:
            self.connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION}; COMMIT;"
            )
        self._clock = self._value("SELECT coalesce(max(used), 0) FROM records")

    @_transaction
    def get(self, owner: str, id: str) -> Record | None:
        """Return the record, and count it as used."""
        row = self.connection.execute("SELECT content FROM records WHERE owner = ? AND id = ?", (owner, id)).fetchone()
        if row is None:
            return None
        self.connection.execute("UPDATE records SET used = ? WHERE owner = ? AND id = ?", (self._tick(), owner, id))
        return Record.decode(id, owner, row[0])

    @_transaction
    def put(self, record: Record) -> bool:
        """Store the record, and drop those that have no room any more."""
        return self._put(record)

    @_transaction
    def delete(self, owner: str, id: str) -> bool:
        """Delete the record."""
        return self._drop(owner, id)

    @_transaction
    def find_item(self, owner: str, id: str) -> Item | None:
        """Return the item of any of the owner's records."""
        row = self.connection.execute("SELECT record FROM items WHERE owner = ? AND id = ?", (owner, id)).fetchone()
        found = None if row is None else self.get(owner, row[0])
        return None if found is None else find_by_id(found, id)

    @_transaction
    def append(self, owner: str, id: str, items: Iterable[Item]) -> bool:
        """Add items to a conversation."""
        found = self.get(owner, id)
        return found is not None and self._put(with_items(found, items))

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self.connection.close()

    def _put(self, record: Record) -> bool:
        content = record.encode()
        if len(content) > self._nbytes or not self._count:
            return False
        self._drop(record.owner, record.id)
        row = (record.owner, record.id, content, self._tick())
        self.connection.execute("INSERT INTO records VALUES (?, ?, ?, ?)", row)
        rows = [(record.owner, item["id"], record.id) for item in record.all_items]
        self.connection.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", rows)
        stored = True
        count, used = self.connection.execute("SELECT count(*), sum(length(content)) FROM records").fetchone()
        while count > self._count or used > self._nbytes:
            owner, id, size = self._find_oldest("sum(length(content))" if used > self._nbytes else "count(*)")
            self._drop(owner, id)
            count, used = count - 1, used - size
            stored = stored and (owner, id) != (record.owner, record.id)
        return stored

    def _find_oldest(self, share: str) -> tuple[str, str, int]:
        """Return the owner with the largest share, and its least recently used record with its size."""
        owner = f"SELECT owner FROM records GROUP BY owner ORDER BY {share} DESC LIMIT 1"  # noqa: S608
        query = f"SELECT owner, id, length(content) FROM records WHERE owner = ({owner}) ORDER BY used LIMIT 1"  # noqa: S608
        found: tuple[str, str, int] = self.connection.execute(query).fetchone()
        return found

    def _drop(self, owner: str, id: str) -> bool:
        self.connection.execute("DELETE FROM items WHERE owner = ? AND record = ?", (owner, id))
        return self.connection.execute("DELETE FROM records WHERE owner = ? AND id = ?", (owner, id)).rowcount > 0

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    def _value(self, query: str) -> int:
        return int(self.connection.execute(query).fetchone()[0])
