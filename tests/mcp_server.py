"""An MCP server for tests, of the official SDK: on standard streams, or over HTTP with `http PORT` or `sse PORT`."""

import os
import sys
from dataclasses import dataclass
from typing import Any

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

server = MCPServer("weather")


@dataclass
class Weather:
    city: str
    degrees: float


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def get_weather(city: str) -> Weather:
    """The weather of a city."""
    return Weather(city, 21.5)


@server.tool()
def fail(reason: str) -> str:
    """Fail."""
    raise ToolError(reason)


@server.tool(structured_output=False)
def picture() -> list[Any]:
    """A picture."""
    return ["Here it is:", Image(data=b"\x89PNG....", format="png")]


@server.tool()
def environment(name: str) -> str:
    """A variable of the environment, and the folder."""
    return f"{os.environ.get(name, 'not set')} in {os.getcwd()}"


@server.tool()
async def learn(name: str, context: Context) -> str:
    """Add a tool."""

    def added() -> str:
        return name

    server.add_tool(added, name=name, description="A tool that was added")
    await context.notify_tools_changed()
    return "learned"


if __name__ == "__main__":
    match sys.argv[1:]:
        case [("http" | "sse") as kind, port]:
            server.run("streamable-http" if kind == "http" else "sse", port=int(port))
        case _:
            server.run("stdio")
