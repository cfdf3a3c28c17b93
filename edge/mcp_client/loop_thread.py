"""A thread with an event loop, in which the connections to MCP servers live."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

from runtime.errors import ToolError

T = TypeVar("T")
_CLOSING_SECONDS = 10.0  # for servers to end: the SDK kills one that takes longer than about five


class LoopThread:
    """An event loop in a daemon thread, from its creation until `close`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, name="mcp", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine in the loop. Raises ToolError after `close`."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError as exc:
            work.close()
            raise ToolError("the MCP servers are closed", hint="open a new chat") from exc

    def close(self, *last: Coroutine[Any, Any, object]) -> None:
        """Run the `last` coroutines, cancel everything else, and end the thread. Does not wait for longer than ten
        seconds."""
        if not self._thread.is_alive():
            for work in last:
                work.close()
            return

        async def end() -> None:
            await asyncio.gather(*last, return_exceptions=True)
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        future = self.submit(end())
        future.add_done_callback(lambda _: self.loop.call_soon_threadsafe(self.loop.stop))
        self._thread.join(_CLOSING_SECONDS)
