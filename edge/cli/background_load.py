"""The loading of a chat's model in the background, while a person types."""

import time
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

from runtime.errors import BackendError
from runtime.progress import Progress

if TYPE_CHECKING:
    from runtime.chat import Chat

_LOOK = 0.1  # seconds between two looks while somebody waits: Ctrl-C is heard
_EARLY = 0.1  # the part of a load before which nothing is said of its end


class BackgroundLoad:
    """A chat that `load` opens in a thread. It takes the function to which the load reports its progress. Leaving the
    context ends a load that is not done, and closes the chat."""

    def __init__(self, load: Callable[[Callable[[Progress], None]], "Chat"]) -> None:
        self._load = load
        self._ended = Event()
        self._left = False
        self._chat: Chat | None = None
        self._error: BaseException | None = None
        self._start = time.monotonic()
        self._part = 0.0
        self._thread = Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._thread.join()
        if self._chat is not None:
            self._chat.close()

    @property
    def failed(self) -> bool:
        """Whether the chat cannot be opened; `result` raises why."""
        return self._error is not None

    def wait(self, seconds: float) -> bool:
        """Wait for the end, so long at most; return whether it has come."""
        return self._ended.wait(seconds)

    def result(self, show: Callable[[str], None]) -> "Chat":
        """Wait for the chat, and `show` how far it is meanwhile. Raises what opening it raised."""
        while not self.wait(_LOOK):
            show(self.status)
        if self._error is not None:
            raise self._error
        assert self._chat is not None
        return self._chat

    @property
    def status(self) -> str:
        """How far the load is, in words; "" at its end."""
        if self._ended.is_set():
            return ""
        if self._part < _EARLY:
            return "loading"
        left = (time.monotonic() - self._start) * (1 - self._part) / self._part
        return f"loading: {self._part:.0%}, about {max(left, 1):.0f} s more"

    def _run(self) -> None:
        try:
            self._chat = self._load(self._report)
        except BaseException as exc:  # for whoever waits  # noqa: BLE001
            self._error = exc
        finally:
            self._ended.set()

    def _report(self, progress: Progress) -> None:
        if self._left:
            raise BackendError("the load was cancelled", hint="load the model again")
        self._part = progress.done / progress.total if progress.total else 0.0
