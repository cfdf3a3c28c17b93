"""The connection to one MCP server, in the event loop of its chat: it starts the server, lists and calls its tools."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from runtime.errors import ToolError
from runtime.text import one_line
from runtime.tool_call import ToolFailure
from runtime.version import VERSION

from .config import ServerConfig
from .content import to_text
from .faults import first_line, start_error
from .listing import ToolList, list_tools
from .stderr_log import LOG, StderrLog
from .transport import Transport

if TYPE_CHECKING:
    from mcp import Client, MCPError

START_SECONDS = 60.0  # for a server to start and to list its tools; uvx and npx download some first
_CLOSE_SECONDS = 8.0  # the SDK closes a process's input, ends it two seconds later, and kills it after two more
_REFRESH_SECONDS = 1.0  # between two lists of a server that announces changes
_STDERR_SECONDS = 0.1  # for the last line of a process that has ended to arrive


class Connection:
    """A connection to a server. Its methods run in one event loop.

    The server starts with `start`; one that has ended starts again with the next call. `list` has the tools that it
    listed last.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.list = ToolList()
        self._stderr = StderrLog(config.name)
        self._client: Client | None = None  # None: it is not connected
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None  # of the current task
        self._end = asyncio.Event()  # of the current task
        self._changed = asyncio.Event()  # the server announced other tools
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Start the server, and list its tools; nothing if it runs. Raises ToolError."""
        async with self._starting:
            if self._client is not None:
                return
            await self.close()
            ready = self._ready = asyncio.get_running_loop().create_future()
            self._end = asyncio.Event()
            self._task = asyncio.create_task(self._run(ready, self._end))
            try:
                await asyncio.wait_for(asyncio.shield(ready), START_SECONDS)
            except BaseException as exc:
                await self.close()
                if not isinstance(exc, TimeoutError):
                    raise
                raise ToolError(
                    self._describe(f"did not start within {START_SECONDS:g} seconds"),
                    hint="run its command in a terminal: it may have to be downloaded first",
                ) from exc

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Call a tool, and return its result as text. Raises ToolFailure, also if the server cannot be started."""
        from mcp import MCPError

        try:
            await self.start()
        except ToolError as exc:
            raise ToolFailure(str(exc)) from exc
        client = self._client
        if client is None:
            raise ToolFailure(self._describe("ended at its start"))
        try:
            result = await client.call_tool(tool, dict(arguments))
        except MCPError as exc:
            if not self._is_lost(exc):
                raise ToolFailure(one_line(exc, 2000)) from exc
            self._client = None
            await asyncio.sleep(_STDERR_SECONDS)
            raise ToolFailure(self._describe("ended during the call; the next call starts it again")) from exc
        except Exception as exc:  # a result that breaks the protocol, or the schema of the tool's results
            raise ToolFailure(f"the MCP server {self.config.name} sent an invalid result: {first_line(exc)}") from exc
        text = to_text(result)
        if result.is_error:
            raise ToolFailure(text or "the tool failed")
        return text

    async def close(self) -> None:
        """End the connection. A process's input is closed; one that goes on for two seconds is killed."""
        task, ready = self._task, self._ready
        self._task = self._ready = self._client = None
        self._end.set()
        if task is None or ready is None:
            return
        if ready.done():  # it ends by itself
            await asyncio.wait([task], timeout=_CLOSE_SECONDS)
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_CLOSE_SECONDS)

    async def _run(self, ready: "asyncio.Future[None]", end: asyncio.Event) -> None:
        """Connect and list the tools, then set `ready`, and stay connected until `end` is set or the server ends."""
        transport = Transport(self.config, self._stderr, on_end=end.set)
        try:
            async with self._connect(transport) as client:
                self.list = await list_tools(client, self.config)
                self._client = client
                ready.set_result(None)
                await self._stay(client, end)
        except BaseException as exc:  # the SDK's tasks raise anything, also in groups
            self._lose(end)
            if isinstance(exc, asyncio.CancelledError) and not ready.done():
                ready.cancel()
            elif not ready.done():
                await asyncio.sleep(_STDERR_SECONDS)
                error = start_error(self.config, exc, transport.http_status, self._stderr.last_line)
                ready.set_exception(error)
            else:
                LOG.info("%s", self._describe(f"was lost: {first_line(exc)}"))
            if isinstance(exc, asyncio.CancelledError):
                raise
        finally:
            self._lose(end)

    def _lose(self, end: asyncio.Event) -> None:
        """Forget the client, unless a later task has connected again."""
        if end is self._end:
            self._client = None

    @asynccontextmanager
    async def _connect(self, transport: Transport) -> "AsyncGenerator[Client, None]":
        from mcp import Client
        from mcp.types import Implementation, LoggingMessageNotificationParams, ToolListChangedNotification

        async def receive(message: object) -> None:
            if isinstance(message, ToolListChangedNotification):
                self._changed.set()

        async def log(params: LoggingMessageNotificationParams) -> None:
            LOG.info("MCP server %s: %s", self.config.name, one_line(params.data, 4096))

        information = Implementation(name="glm4-edge", version=VERSION)
        client = Client(
            transport.streams(), client_info=information, message_handler=receive, logging_callback=log, cache=None
        )
        async with client:
            yield client

    async def _stay(self, client: "Client", end: asyncio.Event) -> None:
        """Keep the list of tools up to date until `end` is set."""
        import anyio

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._refresh, client)
            tasks.start_soon(self._subscribe, client)
            await end.wait()
            self._lose(end)
            tasks.cancel_scope.cancel()

    async def _refresh(self, client: "Client") -> None:
        """List the tools again whenever the server announces a change."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                self.list = await list_tools(client, self.config)
            except Exception as exc:  # the list stays as it was  # noqa: BLE001
                LOG.warning("%s", self._describe(f"cannot list its tools again: {first_line(exc)}"))
            for notice in self.list.notices:
                LOG.warning("%s", notice)
            await asyncio.sleep(_REFRESH_SECONDS)

    async def _subscribe(self, client: "Client") -> None:
        """Subscribe to changes of the list of tools, where the protocol has subscriptions (from 2026-07-28)."""
        from mcp.client.subscriptions import ListenNotSupportedError

        tools = client.server_capabilities.tools
        if tools is None or not tools.list_changed:
            return
        try:
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    self._changed.set()
        except ListenNotSupportedError:
            return
        except Exception as exc:  # noqa: BLE001
            LOG.info("%s", self._describe(f"ended its subscription: {first_line(exc)}"))

    def _is_lost(self, exc: "MCPError") -> bool:
        """Return whether an error means that the server has ended, or no longer knows this session."""
        from mcp.types import CONNECTION_CLOSED

        return bool(exc.error.code == CONNECTION_CLOSED or exc.error.message == "Session terminated")

    def _describe(self, what: str) -> str:
        line = self._stderr.last_line
        return f"the MCP server {self.config.name} {what}" + (f" ({line})" if line else "")
