"""The speech models of a server: each runs in a process of its own, which a request that is cancelled does not end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.cancellation import Cancellation
from runtime.folder.manifest import Task
from runtime.folder.model_folder import ModelFolder
from runtime.speech.requests import SpeechRequest, TranscriptionRequest
from runtime.speech.speech_process import SpeechProcess

from ...errors import server_stopping
from ...limits import Limits
from ..idle_watch import IdleTime, IdleWatch
from ..request_queue import RequestQueue
from .auxiliary_pool import AuxiliaryEntry, AuxiliaryPool

AudioRequest = TranscriptionRequest | SpeechRequest


@dataclass(slots=True)
class SpeechEntry(AuxiliaryEntry[SpeechProcess]):
    """The folder of a speech model, and its process while the model is loaded."""

    async def unload(self) -> None:
        """End the process, in a thread."""
        process, self.model = self.model, None
        if process is not None:
            await asyncio.to_thread(process.close)


class SpeechPool(AuxiliaryPool[SpeechProcess]):
    """The speech models that a server offers."""

    def __init__(self, device: str, limits: Limits, watch: IdleWatch, idle_seconds: float | None) -> None:
        super().__init__(device, limits, watch, idle_seconds)
        self._running: set[Cancellation] = set()

    def new_entry(self, name: str, folder: ModelFolder, queue: RequestQueue, idle_time: IdleTime) -> SpeechEntry:
        """Return an entry for a model, which is not loaded."""
        return SpeechEntry(name, folder, queue, idle_time=idle_time)

    def open(self, folder: ModelFolder) -> SpeechProcess:
        """Start the process of a folder's model."""
        return SpeechProcess(folder, self.device)

    def has(self, task: Task) -> bool:
        """Return whether a model does that."""
        return any(entry.task == task for entry in self.entries.values())

    async def run(
        self, entry: AuxiliaryEntry[SpeechProcess], request: AudioRequest, client: str, take: Callable[[Any], None]
    ) -> None:
        """Answer a request in a turn of the `client`, and call `take` with each part of the answer. The turn lasts
        until the model has ended, also if this is cancelled. Raises ApiError and EdgeError."""
        async with self.turn(entry, client):
            process = await self.load(entry)
            loop, cancellation = asyncio.get_running_loop(), Cancellation()

            def work() -> None:
                for part in process.run(request, cancellation):
                    loop.call_soon_threadsafe(take, part)

            working = asyncio.ensure_future(asyncio.to_thread(work))
            working.add_done_callback(_retrieve_exception)
            self._running.add(cancellation)
            try:
                await asyncio.shield(working)
            finally:
                self._running.discard(cancellation)
                stopped = cancellation.cancelled
                cancellation.cancel()
                await asyncio.wait({working})
        if stopped:
            raise server_stopping()

    async def collect(self, entry: AuxiliaryEntry[SpeechProcess], request: AudioRequest, client: str) -> list[Any]:
        """Return all parts of the answer to a request. Raises what `run` does."""
        parts: list[Any] = []
        await self.run(entry, request, client, parts.append)
        return parts

    def stop(self) -> None:
        """End every request that runs, and reject every one that waits, and every later one."""
        super().stop()
        for cancellation in self._running:
            cancellation.cancel()

    def close(self) -> None:
        """End all processes."""
        for entry in self.entries.values():
            if entry.model is not None:
                entry.model.close()
                entry.model = None


class SpeechParts:
    """The parts of the answer to a request, as they come. Close it after use: what runs is then cancelled."""

    def __init__(
        self, pool: SpeechPool, entry: AuxiliaryEntry[SpeechProcess], request: AudioRequest, client: str
    ) -> None:
        self.limits = pool.limits
        self._parts: list[Any] = []
        self._arrived = asyncio.Event()
        self._working = asyncio.ensure_future(pool.run(entry, request, client, self._take))
        self._working.add_done_callback(self._end)

    def _take(self, part: Any) -> None:
        self._parts.append(part)
        self._arrived.set()

    def _end(self, working: "asyncio.Future[None]") -> None:
        _retrieve_exception(working)
        self._arrived.set()

    async def wait(self, seconds: float) -> None:
        """Wait for the first part, at most `seconds`. Raises what the request raised."""
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return
        if self._working.done():
            self._working.result()

    async def next_batch(self) -> list[tuple[int, Any]]:
        """Wait for the next parts; [] at the end. Raises what the request raised. A call that is cancelled loses no
        part."""
        await self._arrived.wait()
        parts, self._parts = self._parts, []
        if not parts:
            self._working.result()
        elif not self._working.done():
            self._arrived.clear()
        return [(0, part) for part in parts]

    def close(self) -> None:
        """Cancel the request, if it has not ended."""
        self._working.cancel()


def _retrieve_exception(working: "asyncio.Future[None]") -> None:
    """Retrieve the exception of what nobody waits for any more, so that asyncio does not log it."""
    if not working.cancelled():
        working.exception()
