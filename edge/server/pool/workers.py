"""The threads that run a request's replies, and the queue through which the event loop reads their events."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from threading import Thread
from typing import Any, Protocol

from runtime.cancellation import Cancellation
from runtime.events import Event, Finish, Reasoning, Text

Batch = list[tuple[int, Event]]  # each event with the index of its reply
EARLY_FINISH = Finish("length")  # the last event of a reply that the server ended: its usage is unknown


class ReplyEvents(Protocol):
    """The events of one reply, the last a Finish. Any thread may cancel it."""

    def __iter__(self) -> Iterator[Event]:
        """Iterate over the events as the engine generates them."""
        ...

    def cancel(self) -> None:
        """End the reply within one step of the engine. Does not wait."""
        ...

    def close(self) -> None:
        """Stop the engine's work on the reply."""
        ...


class ReplyWorkers:
    """Threads that run the replies of a request, and their events in the order of arrival.

    Each of `starts` begins a reply, in a thread; there are at most `threads`, and each runs one reply after another.
    `map_error` turns what it raises into what `next_batch`
    does. `finish_early` ends all replies with `EARLY_FINISH`,
    `close` without an event; the threads end within a step of the engine, and `done` is called in the event loop after
    the last of them. The replies finish early at `deadline` (the loop's time).
    """

    def __init__(
        self,
        starts: Sequence[Callable[[], ReplyEvents]],
        map_error: Callable[[BaseException], BaseException],
        deadline: float,
        done: Callable[[], None],
        *,
        threads: int,
    ) -> None:
        self.count = len(starts)
        self.finished_early = False
        self._cancellation = Cancellation()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_at(deadline, self.finish_early)
        self._map_error = map_error
        self._done = done
        self._events: deque[tuple[int, Event | BaseException]] = deque()
        self._arrived = asyncio.Event()
        self._woken = False
        self._closed = False
        self._unfinished = set(range(len(starts)))
        self._starts = deque(enumerate(starts))  # the replies that no thread has begun
        self._threads = min(threads, len(starts))
        for _ in range(self._threads):
            Thread(target=self._run_replies, name="reply", daemon=True).start()

    async def next_batch(self) -> Batch:
        """Wait for events and return all that have arrived; [] once every reply has finished. Adjacent pieces of one
        text are joined. Raises what a reply raised."""
        while self._unfinished:
            await self._arrived.wait()
            self._arrived.clear()
            self._woken = False
            if batch := self._drain():
                return batch
        return []

    def finish_early(self) -> None:
        """Finish every reply that has not finished."""
        if self._unfinished and not self._closed:
            self.finished_early = True
            self.close()
            self._events.extend((index, EARLY_FINISH) for index in sorted(self._unfinished))
            self._arrived.set()

    def close(self) -> None:
        """Cancel the replies, whatever they are waiting for."""
        self._closed = True
        self._cancellation.cancel()
        self._timer.cancel()

    def _drain(self) -> Batch:
        batch: Batch = []
        while self._events:
            index, event = self._events.popleft()
            if isinstance(event, BaseException):
                self.close()
                raise event
            if index not in self._unfinished:
                continue
            if isinstance(event, Finish):
                self._unfinished.discard(index)
            last = batch[-1][1] if batch and batch[-1][0] == index else None
            if isinstance(event, Text) and isinstance(last, Text):
                batch[-1] = (index, Text(last.text + event.text))
            elif isinstance(event, Reasoning) and isinstance(last, Reasoning):
                batch[-1] = (index, Reasoning(last.text + event.text))
            else:
                batch.append((index, event))
        return batch

    # These run in the threads. A deque is safe to append to from several; the loop is woken once for a whole batch.

    def _run_replies(self) -> None:
        try:
            with suppress(IndexError):  # another thread has begun the last one
                while not self._closed:
                    self._run(*self._starts.popleft())
        finally:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._thread_ended)

    def _run(self, index: int, start: Callable[[], ReplyEvents]) -> None:
        try:
            with closing(start()) as events, self._cancellation.on_cancel(events.cancel):
                for event in events:
                    if self._closed:
                        return
                    if not isinstance(event, Text) or event.text:
                        self._post(index, event)
        except BaseException as exc:  # noqa: BLE001
            if not self._closed:
                self._post(index, self._map_error(exc))

    def _post(self, index: int, event: Any) -> None:
        self._events.append((index, event))
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._arrived.set)

    def _thread_ended(self) -> None:
        self._threads -= 1
        if self._threads == 0:
            self._timer.cancel()
            self._done()
