"""Opening the bounded store of responses: in memory, or in a file; the least recently used records are dropped."""

from runtime.system.files import expand_user

from .memory_store import MemoryStore
from .record import Store
from .sqlite_store import SqliteStore


def open_store(path: str | None, count: int, nbytes: int) -> Store:
    """Open the store of up to `count` records of `nbytes` together: in memory, or the SQLite file of that path. Raises
    RequestError for a file that is not one."""
    if not path:
        return MemoryStore(count, nbytes)
    return SqliteStore(expand_user(path), count, nbytes)
