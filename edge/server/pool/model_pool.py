"""The models that a server has: loaded when they are asked for, put back when memory is short."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runtime.backends.backend import Options
from runtime.backends.choose import assess_devices
from runtime.backends.openvino.npu import NPU
from runtime.device.machine import detect
from runtime.errors import DeviceError, RequestError
from runtime.model import Model
from runtime.source import ModelSource, open_source
from runtime.text import replace_surrogates

from ..errors import ApiError, stopping
from ..limits import Limits
from .request_queue import Turns


@dataclass(slots=True)
class Book:
    """A model folder, its model while it is loaded, and when it was last lent (seconds of the monotonic clock).

    Before a request takes one of `turns`, what it asks for may be tried, under one of `trials`."""

    name: str
    folder: ModelSource
    turns: Turns
    trials: Turns
    model: Model | None = None
    lent: float = 0.0
    since: int = field(default_factory=lambda: int(time.time()))

    @property
    def idle(self) -> bool:
        return self.turns.running == self.turns.waiting == self.trials.running == 0


@dataclass(frozen=True, slots=True)
class Loan:
    """`count` turns at a model, until `give_back`."""

    book: Book
    model: Model
    count: int
    deadline: float

    def give_back(self) -> None:
        self.book.lent = time.monotonic()
        self.book.turns.leave(self.count)


class Shelf:
    """Lives in the event loop. Raises ModelFolderError or CheckpointError where a folder is not one."""

    def __init__(
        self,
        folders: Sequence[str | Path],
        *,
        device: str = "auto",
        options: Options = Options(),
        limits: Limits = Limits(),
    ) -> None:
        self.limits = limits
        self.stopped = False
        self.loading = False
        self._device = device
        self._options = options
        self._hands = asyncio.Lock()  # one is loaded at a time
        self.books: dict[str, Book] = {}
        for path in folders:
            folder = open_source(path)
            name = replace_surrogates(folder.path.resolve().name)
            if name in self.books:
                raise RequestError(f"two folders are named {name}", hint="rename one: clients ask by that name")
            self.books[name] = Book(name, folder, Turns(limits.running, limits.waiting), Turns(limits.waiting, 0))

    def find(self, name: str | None) -> Book:
        """By the folder's name, or the checkpoint's; the first where none is asked for."""
        if name is None:
            return next(iter(self.books.values()))
        for book in self.books.values():
            if name in (book.name, book.folder.manifest.source.name):
                return book
        raise ApiError(
            404, f"there is no model {name!r} here; GET /v1/models lists them", param="model", code="model_not_found"
        )

    async def lend(self, book: Book, count: int, deadline: float) -> Loan:
        """Waits for `count` turns, until the loop's time is `deadline`, and loads the model if need be."""
        if count > book.turns.limit:
            raise ApiError(400, f"at most {book.turns.limit} replies at once here", param="n", code="invalid_value")
        await book.turns.take(count, deadline)
        try:
            return Loan(book, await self.model(book), count, deadline)
        except BaseException:
            book.turns.leave(count)
            raise

    async def model(self, book: Book) -> Model:
        """The loaded model. Raises what loading does, and ApiError where others in use leave no room."""
        if self.stopped:
            raise stopping()
        if book.model is not None and _alive(book.model):  # who holds a turn at it keeps it from being put back
            return book.model
        loading = asyncio.ensure_future(self._load(book))
        loading.add_done_callback(_heard)
        return await asyncio.shield(loading)  # goes on where the client hangs up: a model half loaded would be lost

    async def _load(self, book: Book) -> Model:
        async with self._hands:
            if self.stopped:
                raise stopping()
            if book.model is not None and not _alive(book.model):
                dead, book.model = book.model, None
                await asyncio.to_thread(dead.close)
            if book.model is None:
                await self._make_room(book)
                self.loading = True
                try:
                    book.model = await asyncio.to_thread(Model, book.folder, device=self._device, options=self._options)
                finally:
                    self.loading = False
                if isinstance(book.model.backend, NPU):
                    book.turns.limit = 1
            book.lent = time.monotonic()
            return book.model

    async def _make_room(self, wanted: Book) -> None:
        """Closes models that nobody uses, the one that was lent longest ago first, until this one has room."""
        while await asyncio.to_thread(_short, wanted.folder, self._device, self._options):
            loaded = [book for book in self.books.values() if book.model is not None]
            idle = sorted((book for book in loaded if book.idle), key=lambda book: book.lent)
            if not idle:
                if loaded:
                    raise ApiError(503, "the models in use leave no room for this one", code="no_memory")
                return  # the loader says what is missing
            oldest, idle[0].model = idle[0].model, None
            if oldest is not None:
                await asyncio.to_thread(oldest.close)

    def stop(self) -> None:
        self.stopped = True
        for book in self.books.values():
            book.turns.stop()
            book.trials.stop()

    def close(self) -> None:
        """Frees all models."""
        for book in self.books.values():
            if book.model is not None:
                book.model.close()
                book.model = None


def _heard(loading: "asyncio.Future[Model]") -> None:
    """Retrieve the task's exception, so that asyncio does not log it as never retrieved."""
    if not loading.cancelled():
        loading.exception()


def _alive(model: Model) -> bool:
    return model.backend.alive


def responds(model: Model) -> bool:
    """Whether the model's engine process is alive and not stopped."""
    return model.backend.responds


def _short(folder: ModelSource, device: str, options: Options) -> bool:
    """Whether memory is short for it."""
    if folder.model_folder is None:
        return False
    with suppress(DeviceError):
        found = assess_devices(detect(), folder.manifest, options)
        wanted = [fit for fit in found if device.upper() in ("AUTO", fit.device)]
        return bool(wanted) and all(fit.obstacle for fit in wanted)
    return False
