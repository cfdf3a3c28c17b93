"""The sections `[tools]` and `[mcp]` of `edge.toml`: the tools that a model may call."""

from dataclasses import dataclass
from typing import Annotated

from .setting import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsSection:
    """The tools that ship, in the terminal and on the chat page: docs/tools.md lists them."""

    folder: Annotated[
        str | None,
        Setting("the folder whose files read_file and list_files show", "FOLDER", path=True, flag="--tool-folder"),
    ] = None
    documents: Annotated[
        str | None,
        Setting(
            "the folder of the documents that search_documents and simple_browser search",
            "FOLDER",
            "the one of read_file",
            path=True,
            flag="--tool-documents",
        ),
    ] = None
    yes: Annotated[bool, Setting("run calls of the tool python without asking")] = False
    allow_unsandboxed: Annotated[
        bool, Setting("let the tool python run without a sandbox where this machine offers none")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class McpSection:
    """The MCP servers whose tools the model may call, in the terminal and on the chat page."""

    servers: Annotated[
        tuple[str, ...],
        Setting(
            "an mcpServers JSON file, the URL of an MCP server, or the command line of one",
            "SERVERS",
            path=".json",
            flag="--mcp",
        ),
    ] = ()
