"""The tools of a chat: those that it was given, and those of sources that are opened and closed with it."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from .errors import ToolError
from .tools import Tool, ToolLike, require_list, to_tools


class ToolSource(ABC):
    """Tools that come from elsewhere and may change between two replies, such as those of MCP servers.

    A chat opens its sources before it loads its model, and closes them with itself. Chats may share a source: it closes
    with the last of them. The schemas of its tools were written for other models: with `strict`, they are enforced
    where the engine supports them.

    Example:
        class Clock(edge.ToolSource):
            def open(self):
                self.offset = 0

            def tools(self, taken=()):
                return [edge.Tool("now", "The time", {"type": "object"}, lambda arguments: "12:00")]

            def close(self):
                pass

        with edge.Chat("./glm4-int4", tools=[Clock()]) as clock_chat:
            print(clock_chat.tools["now"].description)
    """

    @abstractmethod
    def open(self) -> None:
        """Make the tools available until the same number of calls of `close`. Raises ToolError."""

    @abstractmethod
    def tools(self, taken: Collection[str] = ()) -> Sequence[Tool]:
        """Return the tools as they are now, under names that are not `taken`. Raises ToolError if it is not open."""

    def session_tools(self, session: str, taken: Collection[str] = ()) -> Sequence[Tool]:
        """Return the tools for one of several conversations that share this source, such as those of a server's page.
        A source whose tools keep nothing between two calls has the same tools for all."""
        return self.tools(taken)

    def end_session(self, session: str) -> None:
        """Drop what is kept for a conversation. Most sources keep nothing."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Undo one call of `open`."""


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """The tools of one reply by name. `lenient` are those whose schemas are enforced only where they are supported."""

    by_name: dict[str, Tool]
    lenient: frozenset[str] = frozenset()


class Toolbox:
    """Functions, tools and definitions, and the sources of further ones.

    Raises ToolError if two have the same name, or for what is neither a tool nor a source.
    """

    def __init__(self, tools: Iterable[ToolLike | ToolSource]) -> None:
        given = list(require_list(tools))
        self._fixed = to_tools([tool for tool in given if not isinstance(tool, ToolSource)])
        self._sources = [tool for tool in given if isinstance(tool, ToolSource)]
        self._opened = ExitStack()

    @property
    def fixed(self) -> Collection[Tool]:
        """The tools that are not a source's."""
        return self._fixed.values()

    def open(self) -> None:
        """Open the sources. If one fails, the others are closed."""
        with ExitStack() as opened:
            for source in self._sources:
                source.open()
                opened.callback(source.close)
            self._opened = opened.pop_all()

    def offered(self, session: str = "") -> OfferedTools:
        """Return the tools as they are now; with a session, those of that conversation."""
        found, lenient = dict(self._fixed), set[str]()
        for source in self._sources:
            taken = found.keys()
            for tool in source.session_tools(session, taken) if session else source.tools(taken):
                if tool.name in found:
                    raise ToolError(f"two tools are named {tool.name}", hint="rename one")
                found[tool.name] = tool
                lenient.add(tool.name)
        return OfferedTools(found, frozenset(lenient))

    def end_session(self, session: str) -> None:
        """Drop what the sources keep for a conversation."""
        for source in self._sources:
            source.end_session(session)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sources that `open` has opened."""
        self._opened.close()
