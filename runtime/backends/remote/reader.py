"""The reading of a server's reply, which can be cancelled."""

from collections.abc import Generator, Iterator
from contextlib import closing
from queue import SimpleQueue
from threading import Thread

from ...cancellation import Cancellation
from .answer import Chunk


class RemoteReplyReader:
    """Reads a server's reply in a thread of its own, since a blocked read cannot be cancelled."""

    def __init__(self, stream: Generator[Chunk, None, None], cancellation: Cancellation) -> None:
        self._stream = stream
        self._cancellation = cancellation
        self._read: SimpleQueue[Chunk | BaseException | None] = SimpleQueue()
        self._closed = False

    def chunks(self) -> Iterator[Chunk]:
        """Yield chunks up to the server's end, or up to one of ours with the reason "cancelled"."""
        cancelled = Chunk("", None, "cancelled")
        with self._cancellation.on_cancel(lambda: self._read.put(cancelled)):
            if not self._cancellation.cancelled:
                Thread(target=self._write, name="remote", daemon=True).start()
            while (chunk := self._read.get()) is not None:
                if isinstance(chunk, BaseException):
                    raise chunk
                yield chunk
                if chunk is cancelled:
                    return

    def close(self) -> None:
        """Close the connection, at the server's next chunk at the latest."""
        self._closed = True

    def _write(self) -> None:
        try:
            with closing(self._stream) as stream:
                for chunk in stream:
                    self._read.put(chunk)
                    if self._closed or self._cancellation.cancelled:
                        return
        except BaseException as exc:  # noqa: BLE001
            self._read.put(exc)
        else:
            self._read.put(None)
