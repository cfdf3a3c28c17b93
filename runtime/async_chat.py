"""A chat for asyncio: that of `runtime.chat`, in threads, so that the event loop never waits for the engine."""

import asyncio
import contextvars
import inspect
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent import futures
from contextlib import aclosing
from threading import Event as Flag
from threading import Thread
from types import TracebackType
from typing import Any, Self, Unpack

from .backends.backend import Options
from .cancellation import Cancellable
from .chat import Chat
from .checkpoint.adapters.reference import AdapterLike
from .checks import require
from .context_window import Overflow
from .documents.reader import DocumentLike
from .documents.search import Embed
from .errors import RequestError
from .events import Event, ToolCall
from .grammar.grammar import AnswerLike
from .history import History
from .messages import Message, MessageLike, to_messages, with_pictures
from .model import Model
from .pictures import PictureLike
from .progress import Progress
from .reply.reply import Reply
from .sampling import Sampling, SamplingSettings
from .source import ModelSource
from .toolbox import ToolSource
from .tools import Tool, ToolLike

_STEPS_TO_CLOSE = 3  # of the event loop, which closes an abandoned generator in a task of its own


class ChatSettings(SamplingSettings, total=False):
    """The keywords of a Chat that an AsyncChat takes as they are."""

    device: str
    fallback: Sequence[str]
    system: str
    tools: Iterable[ToolLike | ToolSource]
    max_rounds: int
    strict: bool
    tool_timeout: float | None
    max_tool_characters: int
    sampling: Sampling | None
    options: Options
    adapter: AdapterLike | Sequence[AdapterLike]
    in_process: bool
    history: Iterable[MessageLike]
    template_variables: Mapping[str, Any] | None
    embedding_model: "str | os.PathLike[str] | Embed | None"
    overflow: Overflow
    keep_attachments: bool
    progress: Callable[[Progress], None] | None


class ReplySettings(SamplingSettings, total=False):
    """The keywords of `Chat.stream`."""

    pictures: Iterable[PictureLike]
    tools: Iterable[ToolLike | ToolSource] | None
    tool_choice: str | Mapping[str, Any]
    answer: AnswerLike | None
    documents: Iterable[DocumentLike]
    sampling: Sampling | None


class AsyncChat:
    """A Chat whose blocking calls are awaited. Arguments and errors are those of Chat, but tools and `approve` may be
    async.

    The model is loaded by `async with`, or by the first reply. Async tools and `approve` (async or not) run in the
    event loop; other tools run in the chat's tool thread. Cancelling a task that waits for a reply stops the engine;
    the text generated so far stays in the history. Chats that share a Model may reply at the same time.

    Example:
        import asyncio

        async def main() -> None:
            async with edge.AsyncChat("./glm4-int4") as chat:
                print(await chat.send("Who are you?"))
                async for event in chat.stream("Tell me a story.", max_new_tokens=200):
                    if isinstance(event, edge.Text):
                        print(event.text, end="", flush=True)

        asyncio.run(main())
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelSource | Model,
        *,
        approve: Callable[[ToolCall], bool | Awaitable[bool]] | None = None,
        **settings: Unpack[ChatSettings],
    ) -> None:
        require("approve", approve, Callable | None, "a function that takes a ToolCall")  # type: ignore[arg-type]
        self._model = model
        self._approve = approve
        self._settings = settings
        self._loading = asyncio.Lock()
        self._chat: _LoopChat | None = None
        self._idle: asyncio.Event | None = None  # set when the current reply has ended

    async def _open(self) -> "_LoopChat":
        """Return the chat; load its model first if that has not happened yet."""
        async with self._loading:
            if self._chat is None:
                loop, abandoned = asyncio.get_running_loop(), Flag()
                loaded: list[_LoopChat] = []

                def load() -> "_LoopChat":
                    loaded.append(_LoopChat(loop, self._model, self._approve, self._settings))
                    if abandoned.is_set():
                        loaded[0].close()
                    return loaded[0]

                try:
                    self._chat = await asyncio.to_thread(load)
                except asyncio.CancelledError:
                    abandoned.set()
                    for chat in loaded:
                        Thread(target=chat.close, name="close", daemon=True).start()
                    raise
            return self._chat

    @property
    def model(self) -> Model:
        """The loaded model, which other chats may share. Raises RequestError before it is loaded."""
        return self._loaded.model

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The tools that the model may call now, by name. Raises RequestError before the model is loaded."""
        return self._loaded.tools

    @property
    def _loaded(self) -> "_LoopChat":
        if self._chat is None:
            raise RequestError("the model is not loaded yet", hint="enter the chat: async with edge.AsyncChat(…)")
        return self._chat

    @property
    def system(self) -> str:
        """The system message, as `Chat.system`."""
        if self._chat is not None:
            return self._chat.system
        return History(self._settings.get("system", ""), self._settings.get("history", ())).system

    @system.setter
    def system(self, text: str) -> None:
        require("system", text, str, "text")
        if self._chat is not None:
            self._chat.system = text
            return
        history = History(self._settings.get("system", ""), self._settings.get("history", ()))
        history.system = text
        self._settings |= {"system": "", "history": history.messages}

    @property
    def history(self) -> tuple[Message, ...]:
        """All messages so far, including the system message. It can be replaced as that of a Chat."""
        if self._chat is not None:
            return self._chat.history
        return History(self._settings.get("system", ""), self._settings.get("history", ())).messages

    @history.setter
    def history(self, messages: Iterable[MessageLike]) -> None:
        if self._chat is not None:
            self._chat.history = messages
            return
        history = History(self._settings.get("system", ""), self._settings.get("history", ()))
        history.replace(messages)
        self._settings |= {"system": "", "history": history.messages}

    async def send(
        self, message: str | MessageLike | Iterable[MessageLike], **settings: Unpack[ReplySettings]
    ) -> Reply:
        """Send a message and wait for the complete reply. Arguments and errors are those of `Chat.stream`."""
        async with aclosing(self.stream(message, **settings)) as events:
            return Reply.from_events([event async for event in events])

    async def stream(
        self, message: str | MessageLike | Iterable[MessageLike], **settings: Unpack[ReplySettings]
    ) -> AsyncGenerator[Event, None]:
        """Send a message and yield the reply's events, the last a Finish. Arguments and errors are those of
        `Chat.stream`; closing the generator stops the engine."""
        chat = await self._open()
        if pictures := settings.pop("pictures", ()):
            message = await asyncio.to_thread(with_pictures, message, pictures)
        elif not isinstance(message, str):
            message = await asyncio.to_thread(to_messages, message)  # decodes pictures
        loop = asyncio.get_running_loop()
        for _ in range(_STEPS_TO_CLOSE):
            if chat.busy and not chat.cancelled:
                await asyncio.sleep(0)
        if chat.busy and chat.cancelled and self._idle is not None:
            await self._idle.wait()
        events = chat.stream_in(loop, message, settings)
        arrived: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
        ended = asyncio.Event()

        def call(function: Callable[..., None], *arguments: Any) -> None:
            try:
                loop.call_soon_threadsafe(function, *arguments)
            except RuntimeError:  # the loop is closed
                events.cancel()

        def read() -> None:
            last: BaseException | None = None
            try:
                for event in events:
                    call(arrived.put_nowait, event)
            except BaseException as exc:  # raised again in the event loop  # noqa: BLE001
                last = exc
            call(arrived.put_nowait, last)
            call(ended.set)

        if not chat.busy:
            self._idle = ended
        Thread(target=contextvars.copy_context().run, args=(read,), name="reply", daemon=True).start()
        try:
            while (item := await arrived.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            events.cancel()
            await ended.wait()

    async def cancel(self) -> None:
        """Cancel the current reply, and wait until the engine has stopped."""
        if self._chat is not None:
            self._chat.cancel()
        if self._idle is not None:
            await self._idle.wait()

    async def reset(self) -> None:
        """Drop the history, except for the system message."""
        (await self._open()).reset()

    async def save(self, path: str | os.PathLike[str]) -> None:
        """Write the history as JSON, as `Chat.save` does."""
        await asyncio.to_thread((await self._open()).save, path)

    async def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the history by a saved one, as `Chat.load` does."""
        await asyncio.to_thread((await self._open()).load, path)

    async def close(self) -> None:
        """Cancel the current reply, and close the model if this chat loaded it."""
        await self.cancel()
        if self._chat is not None:
            await asyncio.to_thread(self._chat.close)

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _LoopChat(Chat):
    """A Chat that runs async tools and `approve` in an event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        model: str | os.PathLike[str] | ModelSource | Model,
        approve: Callable[[ToolCall], bool | Awaitable[bool]] | None,
        settings: ChatSettings,
    ) -> None:
        self._loop = loop
        self._approve_in_loop = approve
        super().__init__(model, approve=self._ask if approve else None, **settings)

    @property
    def busy(self) -> bool:
        """Whether the chat replies."""
        return self._history.busy

    @property
    def cancelled(self) -> bool:
        """Whether the last reply was cancelled."""
        return self._cancellation.cancelled

    def stream_in(
        self,
        loop: asyncio.AbstractEventLoop,
        message: str | MessageLike | Iterable[MessageLike],
        settings: ReplySettings,
    ) -> Cancellable[Event]:
        """Stream a reply whose async tools run in `loop`."""
        self._loop = loop
        return self.stream(message, **settings)

    def _ask(self, call: ToolCall) -> bool:
        """Call `approve` in the event loop, while this thread waits. A cancelled reply is not approved."""
        approve, loop = self._approve_in_loop, self._loop
        assert approve is not None
        assert loop is not None

        async def ask() -> bool:
            answer = approve(call)
            return await answer if inspect.isawaitable(answer) else answer

        future = asyncio.run_coroutine_threadsafe(ask(), loop)
        with self._cancellation.on_cancel(lambda: _cancel(future)):
            try:
                return future.result()
            except (futures.CancelledError, asyncio.CancelledError):
                if not self._cancellation.cancelled:
                    raise
                return False


def _cancel(future: Any) -> None:
    future.cancel()
