"""The loading of a chat's model in the background, while a person types, and of what its prompts begin with."""

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

from runtime.cancellation import Cancellation
from runtime.errors import BackendError, EdgeError
from runtime.progress import Progress

if TYPE_CHECKING:
    from runtime.chat import Chat

_LOOK = 0.1  # seconds between two looks while somebody waits: Ctrl-C is heard
_EARLY = 0.1  # the part of a load before which nothing is said of its end
_SHORT = 64  # tokens of a prompt below which nothing is read ahead: two blocks of the prefix cache


class BackgroundLoad:
    """A chat that `load` opens in a thread. It takes the function to which the load reports its progress. Once the chat
    is there, the thread calls `prefill` with it, until `end_prefill`. Leaving the context ends what is not done, and
    closes the chat."""

    def __init__(
        self,
        load: Callable[[Callable[[Progress], None]], "Chat"],
        prefill: "Callable[[Chat, Cancellation], None] | None" = None,
    ) -> None:
        self._load = load
        self._prefill = prefill
        self._cancellation = Cancellation()  # of the prefill
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
        self.end_prefill()
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

    def end_prefill(self) -> None:
        """End the prefill within a step of the engine, which keeps what it has read. Does not wait for that."""
        self._cancellation.cancel()

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
        if self._chat is not None and self._prefill is not None:
            with suppress(EdgeError):  # the first message tells it
                self._prefill(self._chat, self._cancellation)

    def _report(self, progress: Progress) -> None:
        if self._left:
            raise BackendError("the load was cancelled", hint="load the model again")
        self._part = progress.done / progress.total if progress.total else 0.0


def prefill(chat: "Chat", cancellation: Cancellation) -> None:
    """Let the engine read the system message and the tools, with which the first prompt will begin, if it keeps what it
    has read. It need not be done, nor begun, when that prompt comes. Raises what reading a prompt raises."""
    from runtime.messages import Message

    model, family = chat.model, chat.model.family
    if not model.backend.keeps_prefixes:
        return
    system = [Message("system", chat.system)] if chat.system and family.system else []
    tools = [tool for tool in chat.tools.values() if family.tools or tool.name in family.own_tools]
    if model.count_tokens([*system, Message("user", "?")], tools) >= _SHORT and not cancellation.cancelled:
        model.prefill(system, tools, cancellation)
