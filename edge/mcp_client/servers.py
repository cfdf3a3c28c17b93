"""MCP servers as the source of a chat's tools: `edge.mcp`."""

import os
import warnings
import weakref
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from threading import Lock
from types import TracebackType
from typing import Any, Self

from runtime import strict_json
from runtime.checks import require_seconds
from runtime.errors import Notice, ToolError
from runtime.system.installation import install_hint
from runtime.system.native_effects import quiet_mcp
from runtime.text import quoted
from runtime.tool_call import ToolFailure
from runtime.toolbox import ToolSource
from runtime.tools import Tool

from .config import EVERY_TOOL, ServerConfig, read_servers, with_allow
from .connection import Connection
from .loop_thread import LoopThread
from .tool_names import unique_names


@dataclass(frozen=True, slots=True)
class McpTool(Tool):
    """A tool of an MCP server. `server` is the server's name, `listed_as` the tool's name there. `allowed` is whether
    an allow list names it, and `read_only` what the server says of it: a hint, which nobody has verified.

    Example:
        def approve(call):
            tool = chat.tools[call.name]
            return not isinstance(tool, edge.McpTool) or tool.allowed
    """

    server: str = ""
    listed_as: str = ""
    allowed: bool = False
    read_only: bool = False


class McpServers(ToolSource):
    """The tools of MCP servers, for the `tools` of a chat. `edge.mcp` makes one; nothing is started before a chat opens
    it, or `with` does. `names` are those of the servers.

    Example:
        with edge.mcp("python time_server.py") as servers:
            print([tool.name for tool in servers.tools()])
    """

    def __init__(self, configs: Sequence[ServerConfig], timeout: float | None = None) -> None:
        self._configs = tuple(configs)
        self._timeout = timeout
        self._lock = Lock()
        self._users = 0
        self._connections: tuple[Connection, ...] = ()
        self._close: weakref.finalize[Any, Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the servers."""
        return tuple(config.name for config in self._configs)

    def require_allow_lists(self, reason: str, *, every: bool = True) -> None:
        """Raise ToolError unless each server has an allow list, for the `reason` that nobody approves its calls. Unless
        `every`, the list may not be "*"."""
        for config in self._configs:
            if config.allow is None or (not every and EVERY_TOOL in config.allow):
                what = "has no allow list" if config.allow is None else "allows every tool"
                everything = f', or "{EVERY_TOOL}" for all of them' if every else ""
                raise ToolError(
                    f"the MCP server {config.name} {what}, and {reason}",
                    hint=f'list the tools that may run in its "allow"{everything}',
                )

    def open(self) -> None:
        """Start the servers, all at once, and list their tools; nothing more if they are open. Raises ToolError if one
        cannot be started."""
        with self._lock:
            if not self._users:
                self._start()
            self._users += 1

    def _start(self) -> None:
        if find_spec("mcp") is None:
            raise ToolError("MCP servers need the package mcp, which is not installed", hint=install_hint("mcp"))
        quiet_mcp()
        connections = tuple(map(Connection, self._configs))
        thread = LoopThread()
        self._close = weakref.finalize(self, _close_all, thread, connections)
        try:
            started: list[Future[None]] = [thread.submit(connection.start()) for connection in connections]
            for future in started:
                future.result()
        except BaseException:
            self._close()
            raise
        self._connections, self._thread = connections, thread
        for connection in connections:
            for notice in connection.list.notices:
                warnings.warn(notice, Notice, stacklevel=5)

    def tools(self, taken: Collection[str] = ()) -> Sequence[McpTool]:
        """Return the tools as the servers list them now. Of tools of one name, each is prefixed with its server's name,
        as in `git_status`, and so is one whose name is `taken`. Raises ToolError if the servers are not open."""
        if not self._users:
            raise ToolError(
                "the MCP servers are not started", hint="pass them to a chat, or open them: `with servers:`"
            )
        listed = [(each, tool) for each in self._connections for tool in each.list.tools.values()]
        names = unique_names([(each.config.name, tool.name) for each, tool in listed], taken)
        return [
            McpTool(
                name,
                tool.description or tool.title or "",
                tool.input_schema,
                partial(_call, each, tool.name),
                timeout=self._timeout,
                loop=self._thread.loop,
                server=each.config.name,
                listed_as=tool.name,
                allowed=each.config.allow is not None,
                read_only=bool(tool.annotations and tool.annotations.read_only_hint),
            )
            for name, (each, tool) in zip(names, listed, strict=True)
        ]

    def close(self) -> None:
        """End the servers, unless another chat still uses them: each has its input closed, and is killed if it goes on
        for two seconds."""
        with self._lock:
            self._users = max(0, self._users - 1)
            if not self._users and self._close is not None:
                self._close()
                self._connections = ()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def mcp(
    server: str | os.PathLike[str] | Mapping[str, Any],
    *,
    allow: Collection[str] | None = None,
    timeout: float | None = None,
) -> McpServers:
    """Return the tools of MCP servers, for the `tools` of a Chat.

    `server` is a command line; a URL; the path of a JSON file with `mcpServers`, as desktop apps and editors have it;
    or a dict in that layout. `allow` names the only tools to offer, as their server spells them; without it, the file's
    own `allow` or `allowedTools` does, or all are offered. A call that takes longer than `timeout` seconds fails;
    without it, the chat's limit applies.

    The servers run as long as the chat is open. One that ends during a call makes that call fail, and starts again with
    the next. Tools run unless `approve` of the chat declines them.

    Raises RequestError for a configuration that is not valid. The chat raises ToolError if a server does not start.

    Example:
        with edge.Chat("./glm4-int4", tools=[edge.mcp("python time_server.py", allow=["now"])]) as timed:
            print(timed.send("What time is it?"))
    """
    require_seconds("timeout", timeout)
    return McpServers(with_allow(read_servers(server), allow), timeout)


async def _call(connection: Connection, tool: str, arguments: str) -> str:
    try:
        values = strict_json.parse(arguments or "{}")
    except ValueError as exc:
        raise ToolFailure(f"the arguments are not JSON: {exc}") from exc
    if not isinstance(values, dict):
        raise ToolFailure(f"the arguments are {quoted(values)}, and not an object")
    return await connection.call(tool, values)


def _close_all(thread: LoopThread, connections: Sequence[Connection]) -> None:
    thread.close(*(connection.close() for connection in connections))
