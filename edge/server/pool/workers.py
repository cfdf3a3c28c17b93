"""Replies are written in threads, and read in the event loop as they come."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import closing, suppress
from threading import Thread
from typing import Any

from runtime.cancellation import Cancellation
from runtime.messages import Event, Finish, Reasoning, Text

Indexed = tuple[int, Event]


class ReplyWorkers:
    """The events of some replies that are written side by side, each with the number of its reply.

    A reply ends with a Finish. `cut` ends all of them with "length", `close` without a word, by `cancellation`; the
    threads leave off within a step of the engine, and `done` is called in the event loop once they have.
    """

    def __init__(
        self,
        writers: Sequence[Generator[Event, None, None]],
        cancellation: Cancellation,
        deadline: float,
        done: Callable[[], None],
    ) -> None:
        self._cancellation = cancellation
        self.finished_early = False
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.call_at(deadline, self.finish_early)
        self._done = done
        self._events: deque[tuple[int, Event | BaseException]] = deque()
        self._arrived = asyncio.Event()
        self._woken = False
        self._closed = False
        self._open = set(range(len(writers)))
        self._working = len(writers)
        for index, writer in enumerate(writers):
            Thread(target=self._write, args=(index, writer), name="reply", daemon=True).start()

    async def batches(self) -> AsyncGenerator[list[Indexed], None]:
        """All that has come since the last time; pieces of one text are joined. Raises what a writer raised."""
        while self._open:
            await self._arrived.wait()
            self._arrived.clear()
            self._woken = False
            if batch := self._drain():
                yield batch

    def finish_early(self) -> None:
        """Ends what is not at its end."""
        if self._open and not self._closed:
            self.finished_early = True
            self.close()
            self._events.extend((index, Finish("length")) for index in sorted(self._open))
            self._arrived.set()

    def close(self) -> None:
        """Stops the writers, wherever they wait."""
        self._closed = True
        self._cancellation.cancel()
        self._end.cancel()

    def _drain(self) -> list[Indexed]:
        batch: list[Indexed] = []
        while self._events:
            index, event = self._events.popleft()
            if isinstance(event, BaseException):
                self.close()
                raise event
            if index not in self._open:
                continue
            if isinstance(event, Finish):
                self._open.discard(index)
            last = batch[-1][1] if batch and batch[-1][0] == index else None
            if isinstance(event, Text) and isinstance(last, Text):
                batch[-1] = (index, Text(last.text + event.text))
            elif isinstance(event, Reasoning) and isinstance(last, Reasoning):
                batch[-1] = (index, Reasoning(last.text + event.text))
            else:
                batch.append((index, event))
        return batch

    # In the threads. A deque takes what several of them append, and the loop is woken once for all of it.

    def _write(self, index: int, writer: Generator[Event, None, None]) -> None:
        try:
            with closing(writer) as events:
                for event in events:
                    if self._closed:
                        return
                    if not isinstance(event, Text) or event.text:
                        self._post(index, event)
        except BaseException as exc:
            if not self._closed:
                self._post(index, exc)
        finally:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._leave)

    def _post(self, index: int, event: Any) -> None:
        self._events.append((index, event))
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._arrived.set)

    def _leave(self) -> None:
        self._working -= 1
        if self._working == 0:
            self._end.cancel()
            self._done()
