"""The list of an MCP server's tools, with limits: a model reads all of it before each reply."""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.errors import ToolError
from runtime.text import quoted

from .config import ServerConfig

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import Tool as ListedTool

MAX_TOOLS = 128  # of a server; as many as a request to our server may have
MAX_DEFINITION = 64 * 2**10  # characters of a tool's name, description and schema as JSON
_MAX_PAGES = 1000


@dataclass(frozen=True, slots=True)
class ToolList:
    """A server's tools by the names that it gave them, and `notices` about those that were left out."""

    tools: "dict[str, ListedTool]" = field(default_factory=dict)
    notices: tuple[str, ...] = ()


async def list_tools(client: "Client", config: ServerConfig) -> ToolList:
    """Return the tools that a server lists and its configuration allows. Raises ToolError, such as for too many."""
    server = f"the MCP server {config.name}"
    if client.server_capabilities.tools is None:
        raise ToolError(f"{server} offers no tools", hint="remove it: only the tools of MCP servers are supported")
    tools: dict[str, ListedTool] = {}
    too_large: dict[str, int] = {}
    cursor = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            if not config.allows(tool.name) or tool.name in tools:
                continue
            if (size := _definition_size(tool)) > MAX_DEFINITION:
                too_large[tool.name] = size
            else:
                tools[tool.name] = tool
        if len(tools) > MAX_TOOLS:
            raise ToolError(
                f"{server} offers more than {MAX_TOOLS} tools", hint='list those that the model needs in "allow"'
            )
        cursor = page.next_cursor
        if not cursor:
            break
    else:
        raise ToolError(f"{server} lists its tools without end", hint="report it to the server's authors")
    notices = [
        f"the tool {quoted(name)} of {server} is left out: its definition has {size:,} characters, and at most "
        f"{MAX_DEFINITION:,} are supported"
        for name, size in too_large.items()
    ]
    missing = sorted(config.listed_names - tools.keys() - too_large.keys())
    notices += [f"{server} has no tool {quoted(name)}, which its allow list names" for name in missing]
    return ToolList(tools, tuple(notices))


def _definition_size(tool: "ListedTool") -> int:
    try:
        return len(tool.name) + len(tool.description or "") + len(json.dumps(tool.input_schema, ensure_ascii=False))
    except (ValueError, RecursionError):
        return MAX_DEFINITION + 1
