"""The tools that flags and edge.toml name: those that ship, Python functions as MODULE:FUNCTION, and MCP servers."""

from collections.abc import Sequence
from importlib import import_module

from runtime.errors import RequestError, ToolError
from runtime.toolbox import ToolSource
from runtime.tools import Tool, to_tools

from ..mcp_client.servers import McpServers, mcp
from ..toolkit.builtin import BUILTIN, ToolSettings, load_builtin
from ..toolkit.python_tool import PythonTool
from .tool_sections import ToolsSection

_HINT = f"write it as MODULE:FUNCTION, or choose one of {', '.join(BUILTIN)}"


def load_tools(names: Sequence[str], section: ToolsSection, *, unattended: str = "") -> tuple[Tool | ToolSource, ...]:
    """Return the tools that ship and the functions of these names. Where nobody can approve calls, `unattended` is the
    reason. Raises RequestError and ToolError."""
    settings = ToolSettings(section.folder, section.documents, None, not section.yes, section.allow_unsandboxed)
    shipped = load_builtin([name for name in names if ":" not in name], settings)
    if unattended and settings.approval and any(isinstance(tool, PythonTool) for tool in shipped):
        raise ToolError(
            f"a person approves each call of the tool python, and {unattended}",
            hint="pass --yes, or set yes = true in [tools] of edge.toml, to run its calls without a question",
        )
    return (*shipped, *load_functions([name for name in names if ":" in name]))


def load_functions(names: Sequence[str]) -> tuple[Tool, ...]:
    """Import each MODULE:FUNCTION as a tool. Raises RequestError for a missing one, ToolError for an unsuitable one."""
    found = []
    for name in names:
        module, _, function = name.partition(":")
        if not module or not function:
            raise RequestError(f"{name} has no function name", hint=_HINT)
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
