"""The files of /v1/files, in memory: each client has its own, within bounds, until they expire or the server ends."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

from ..errors import ApiError

CLIENT_BYTES = 64 * 2**20  # of one client's files together
TOTAL_BYTES = 4 * CLIENT_BYTES
_CLIENT_FILES = 1000
FILE_SECONDS = 48 * 3600  # the 24 hours of a batch, and a day to fetch its results


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a client. Times are Unix timestamps."""

    id: str
    client: str
    filename: str
    purpose: str
    content: bytes
    created_at: int
    expires_at: int


class FileStore:
    """The files of all clients. Use it in the event loop only."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}
        self._reserved: dict[str, int] = {}

    def add(
        self, client: str, filename: str, purpose: str, content: bytes, *, seconds: int = FILE_SECONDS
    ) -> StoredFile:
        """Add a file that expires after `seconds`. Raises ApiError (413) if there is no room for it."""
        self.require_room(client, len(content))
        now = int(time.time())
        file = StoredFile(f"file-{uuid4().hex}", client, filename, purpose, content, now, now + seconds)
        self._files[file.id] = file
        return file

    def get(self, client: str, id: str) -> StoredFile:
        """Return a file of the client. Raises ApiError (404)."""
        file = next((file for file in self._current() if file.id == id and file.client == client), None)
        if file is None:
            raise ApiError(404, f"there is no file {id[:100]!r}", param="file_id", code="file_not_found")
        return file

    def list(self, client: str, purpose: str | None = None) -> list[StoredFile]:
        """Return the client's files, the oldest first."""
        return [file for file in self._current() if file.client == client and purpose in (None, file.purpose)]

    def delete(self, client: str, id: str) -> None:
        """Delete a file of the client. Raises ApiError (404)."""
        del self._files[self.get(client, id).id]

    def require_room(self, client: str, nbytes: int) -> None:
        """Raise ApiError (413) if a file of that size would exceed the bounds of the client, or of all clients."""
        files = list(self._current())
        own = [len(file.content) for file in files if file.client == client]
        total = sum(len(file.content) for file in files) + sum(self._reserved.values())
        if len(own) >= _CLIENT_FILES:
            raise ApiError(413, f"there are {_CLIENT_FILES:,} files already; delete some", code="too_large")
        if sum(own) + self._reserved.get(client, 0) + nbytes > CLIENT_BYTES:
            message = f"the files would be larger than {CLIENT_BYTES:,} bytes together; delete some"
            raise ApiError(413, message, code="too_large")
        if total + nbytes > TOTAL_BYTES:
            raise ApiError(503, "the files of all clients leave no room for this one", code="busy")

    def reserve(self, client: str, nbytes: int) -> None:
        """Reserve room for a file to come. Raises ApiError if there is none."""
        self.require_room(client, nbytes)
        self._reserved[client] = self._reserved.get(client, 0) + nbytes

    def release(self, client: str, nbytes: int) -> None:
        """Return reserved room."""
        left = self._reserved.pop(client, 0) - nbytes
        if left:
            self._reserved[client] = left

    def _current(self) -> Iterator[StoredFile]:
        """Remove the files that have expired, and yield the others."""
        now = time.time()
        for file in [*self._files.values()]:
            if file.expires_at <= now:
                del self._files[file.id]
        yield from self._files.values()
