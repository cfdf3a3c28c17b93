"""The tools that ship, by name: `edge.builtin_tools`."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.errors import RequestError
from runtime.text import quoted
from runtime.toolbox import ToolSource
from runtime.tools import Tool

from .calculator import calculator
from .clock import clock
from .folder_files import FolderFiles
from .python_tool import PythonTool

if TYPE_CHECKING:
    from ..documents import DocumentIndex

Found = Sequence[Tool | ToolSource]


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """The settings of the tools: the folder whose files may be read, that of the documents and of an embedding model
    for them, whether a person approves calls of python, and whether it may run without a sandbox."""

    folder: str | os.PathLike[str] | None = None
    documents: str | os.PathLike[str] | None = None
    embedding_model: str | None = None
    approval: bool = True
    allow_unsandboxed: bool = False


def builtin_tools(
    *names: str,
    folder: str | os.PathLike[str] | None = None,
    documents: str | os.PathLike[str] | None = None,
    approval: bool = True,
    allow_unsandboxed: bool = False,
) -> tuple[Tool | ToolSource, ...]:
    """Return the tools that ship under these names, for the `tools` of a Chat.

    - `python` runs code in a sandbox without network, with 512 MB of memory, 64 MB of files and 10 seconds a call;
      plots are pictures of the result. With `approval` the terminal and the chat page ask before each call; in Python,
      a chat's `approve` decides. Where there is no sandbox, the chat raises ToolError, unless `allow_unsandboxed`.
    - `calculator` and `clock` need nothing.
    - `read_file` and `list_files` show the files of `folder`, and none outside of it.
    - `search_documents` (with `open_document`) searches those of `documents`, by default of `folder`.
    - `simple_browser` does so in the commands for which glm-4-9b-chat was trained; it takes their place.

    Raises RequestError for an unknown name, or a folder that is missing.

    Example:
        with edge.Chat("./glm4-int4", tools=edge.builtin_tools("python", "clock")) as assistant:
            print(assistant.send("Which weekday is it in 100 days?"))
    """
    settings = ToolSettings(folder, documents, None, approval, allow_unsandboxed)
    return load_builtin(names, settings)


def load_builtin(names: Sequence[str], settings: ToolSettings) -> tuple[Tool | ToolSource, ...]:
    """Return the tools of these names, each once. Raises RequestError."""
    unknown = next((name for name in names if name not in BUILTIN), None)
    if unknown is not None:
        raise RequestError(f"there is no tool {quoted(unknown)}", hint=f"there are {', '.join(BUILTIN)}")
    if {"search_documents", "simple_browser"} <= {*names}:
        raise RequestError(
            "search_documents and simple_browser search the same documents, and number them differently",
            hint="name one of them: simple_browser for glm-4-9b-chat, search_documents for other models",
        )
    return tuple(tool for name in dict.fromkeys(names) for tool in BUILTIN[name](settings))


def _files(settings: ToolSettings, name: str) -> FolderFiles:
    if settings.folder is None:
        raise RequestError(f"the tool {name} has no folder", hint="name the folder whose files the model may read")
    return FolderFiles(settings.folder)


def _index(settings: ToolSettings, name: str) -> "DocumentIndex":
    from ..documents import open_folder

    folder = settings.documents if settings.documents is not None else settings.folder
    if folder is None:
        raise RequestError(f"the tool {name} has no folder", hint="name the folder of the documents")
    return open_folder(os.fspath(folder), settings.embedding_model)


def _browser(settings: ToolSettings) -> ToolSource:
    from .simple_browser import SimpleBrowser

    return SimpleBrowser(_index(settings, "simple_browser"))


BUILTIN: Mapping[str, Callable[[ToolSettings], Found]] = {
    "python": lambda settings: (PythonTool(approval=settings.approval, allow_unsandboxed=settings.allow_unsandboxed),),
    "calculator": lambda settings: (Tool.from_function(calculator),),
    "clock": lambda settings: (Tool.from_function(clock),),
    "read_file": lambda settings: (_files(settings, "read_file").read_tool(),),
    "list_files": lambda settings: (_files(settings, "list_files").list_tool(),),
    "search_documents": lambda settings: _index(settings, "search_documents").tools(),
    "simple_browser": lambda settings: (_browser(settings),),
}
