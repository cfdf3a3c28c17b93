"""Opening the bounded store of responses: in memory, or in a file; the least recently used records are dropped."""

from pathlib import Path

from .memory_store import MemoryStore
from .record import Store
from .sqlite_store import SqliteStore

COUNT = 1_000  # records
NBYTES = 64 * 2**20  # of their JSON


def open_store(path: str | Path | None, count: int = COUNT, nbytes: int = NBYTES) -> Store:
    """Open the store: in memory, or the SQLite file of that path. Raises RequestError for a file that is not one."""
    if not path:
        return MemoryStore(count, nbytes)
    return SqliteStore(Path(path), count, nbytes)
