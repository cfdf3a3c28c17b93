"""A model and local documents as an MCP server, for desktop apps, editors and agents: `edge mcp`."""

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from runtime.async_chat import AsyncChat
from runtime.errors import EdgeError, RequestError
from runtime.model import Model
from runtime.source import ModelSource
from runtime.system.installation import install_hint
from runtime.version import VERSION

from .documents import DocumentIndex

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

_SNIPPET = 200  # characters of a search result
_MAX_TOKENS = 1024  # of an answer


class SharedModel:
    """A model that is loaded by the first question, and then answers all of them."""

    def __init__(self, source: ModelSource, device: str) -> None:
        self.name = source.manifest.source.name
        self._source = source
        self._device = device
        self._model: Model | None = None
        self._loading = asyncio.Lock()

    async def answer(self, question: str, system: str) -> str:
        """Return the model's answer. Raises EdgeError."""
        async with self._loading:
            if self._model is None:
                self._model = await asyncio.to_thread(Model, self._source, device=self._device)
        async with AsyncChat(self._model, system=system) as chat:
            return (await chat.send(question, max_new_tokens=_MAX_TOKENS)).text

    def close(self) -> None:
        """Close the model, if it was loaded."""
        if self._model is not None:
            self._model.close()


def create_server(model: SharedModel | None, documents: DocumentIndex | None) -> "MCPServer[Any]":
    """Return the server: the tool `ask` of a model, `search_documents` and `open_document` of documents. Raises
    RequestError without the package mcp, or if there is neither."""
    if find_spec("mcp") is None:
        raise RequestError("an MCP server needs the package mcp, which is not installed", hint=install_hint("mcp"))
    if model is None and documents is None:
        raise RequestError("there is nothing to offer", hint="pass a model folder, --documents FOLDER, or both")
    from mcp.server.mcpserver import MCPServer
    from mcp.types import ToolAnnotations

    server: MCPServer[Any] = MCPServer("glm4-edge", version=VERSION, log_level="WARNING")
    read_only = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    if model is not None:
        description = (
            f"Ask {model.name}, a language model on this machine. It sees nothing but the question, and remembers no "
            "earlier one."
        )
        server.add_tool(
            _ask(model), name="ask", description=description, annotations=read_only, structured_output=False
        )
    if documents is not None:
        for function in _document_tools(documents):
            server.add_tool(function, annotations=read_only, structured_output=False)
    return server


def _ask(model: SharedModel) -> Any:
    from mcp.server.mcpserver.exceptions import ToolError

    async def ask(
        question: Annotated[str, Field(description="The question, with everything that is needed to answer it")],
        system: Annotated[str, Field(description="Instructions for the model")] = "",
    ) -> str:
        try:
            return await model.answer(question, system)
        except EdgeError as exc:
            raise ToolError(f"{exc}. {exc.hint}") from exc

    return ask


def _document_tools(documents: DocumentIndex) -> tuple[Any, Any]:
    from mcp.server.mcpserver.exceptions import ToolError

    def search_documents(query: Annotated[str, Field(description="Words that the documents contain")]) -> str:
        """Search the local documents. Returns the address, the title and the beginning of the best pages."""
        pages = documents.search(query)
        found = (f"{page.address}: {page.heading}\n{' '.join(page.text.split())[:_SNIPPET]}" for page in pages)
        return "\n\n".join(found) or "No page has any of these words."

    def open_document(address: Annotated[str, Field(description="An address that search_documents returned")]) -> str:
        """Read a page of the local documents."""
        page = documents.open(address)
        if page is None:
            raise ToolError(f"there is no page {address!r}; search_documents returns the addresses")
        return f"{page.heading}\n\n{page.text}"

    return search_documents, open_document
