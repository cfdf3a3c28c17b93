"""Cancellation of a reply, from any thread."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from threading import Event, Lock
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class Cancellation:
    """Cancels one reply or conversion, from any thread. An engine checks `cancelled` between two steps, or registers a
    callback while it waits.

    Example:
        from threading import Timer

        cancellation = edge.Cancellation()
        Timer(1, cancellation.cancel).start()
        for event in chat.model.reply("Count to a million.", cancellation=cancellation):
            pass
    """

    def __init__(self) -> None:
        self._event = Event()
        self._lock = Lock()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        """Whether the reply was cancelled."""
        return self._event.is_set()

    def cancel(self) -> None:
        """Cancel the reply. Does not wait; further calls change nothing."""
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """Within the context, `cancel` calls `callback` in its own thread; if it was cancelled before, the context does
        so at once."""
        with self._lock:
            cancelled = self.cancelled
            if not cancelled:
                self._callbacks.append(callback)
        if cancelled:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)


class Cancellable(Generator[T, None, None]):
    """A generator of events that any thread may cancel while another reads it. Closing it stops the engine, too.

    Example:
        events = chat.stream("Tell me a long story.")
        for event in events:
            events.cancel()  # the last event is a Finish with the reason "cancelled"
    """

    def __init__(self, events: Generator[T, None, None], cancellation: Cancellation) -> None:
        self._events = events
        self._cancellation = cancellation

    def cancel(self) -> None:
        """End the reply within one step of the engine: its last event is a Finish whose reason is "cancelled"."""
        self._cancellation.cancel()

    def send(self, value: None) -> T:
        """Resume the generator, as its own `send` does."""
        return self._events.send(value)

    def throw(  # type: ignore[override]
        self, kind: Any, value: BaseException | None = None, trace: TracebackType | None = None
    ) -> T:
        """Raise an exception inside the generator, as its own `throw` does."""
        return self._events.throw(kind) if value is None else self._events.throw(kind, value, trace)

    def close(self) -> None:
        """Stop the engine and end the generator. While another thread reads it, cancel the reply instead."""
        try:
            self._events.close()
        except ValueError:  # it is executing
            self.cancel()
