"""The tools that flags and edge.toml name: Python functions as MODULE:FUNCTION, and MCP servers."""

from collections.abc import Sequence
from importlib import import_module

from runtime.errors import RequestError, ToolError
from runtime.tools import Tool, to_tools

from ..mcp_client.servers import McpServers, mcp


def load_functions(names: Sequence[str]) -> tuple[Tool, ...]:
    """Import each MODULE:FUNCTION as a tool. Raises RequestError for a missing one, ToolError for an unsuitable one."""
    found = []
    for name in names:
        module, _, function = name.partition(":")
        if not module or not function:
            raise RequestError(f"{name} has no function name", hint="write it as MODULE:FUNCTION")
        try:
            found.append(getattr(import_module(module), function))
        except (ImportError, AttributeError) as exc:
            raise RequestError(
                f"{name} cannot be imported: {exc}", hint="check its name, and that its folder is in PYTHONPATH"
            ) from exc
        if not callable(found[-1]) and not isinstance(found[-1], Tool):
            raise ToolError(f"{name} is not a function", hint="pass a typed Python function, or an edge.Tool")
    return tuple(to_tools(found).values())


def load_servers(sources: Sequence[str], *, unattended: str = "", every: bool = True) -> tuple[McpServers, ...]:
    """Return the MCP servers of configuration files, URLs and command lines; nothing is started. Where they are
    `unattended`, for the reason given, each needs an allow list of its tools; unless `every`, that may not be "*".
    Raises RequestError for a configuration that is not valid, ToolError without a list."""
    found = tuple(map(mcp, sources))
    for servers in found if unattended else ():
        servers.require_allow_lists(unattended, every=every)
    return found
