"""The tool simple_browser, for which glm-4-9b-chat was trained, over local documents instead of the web.

Its commands and their results are those of upstream's browser (composite_demo/browser/src/browser.ts of THUDM/GLM-4):
search lists pages, mclick reads some of them, open_url reads one. An answer cites a page that mclick has read as
【7†source】; the numbers begin with 7, as upstream's do, and are not used again in a conversation.
"""

import ast
import inspect
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Lock
from typing import Any

from runtime.events import Citation
from runtime.prompt.families.observations import (
    BROWSER_RESULT,
    SYSTEM_ERROR,
    Observation,
    join_observations,
    quote_result,
)
from runtime.text import one_line
from runtime.tool_output import ToolOutput
from runtime.toolbox import ToolSource
from runtime.tools import Tool

from ..documents import DocumentIndex, DocumentPage

_FIRST_QUOTE = 7
_SNIPPET = 300  # characters of a search result
_QUOTED = 16_000  # characters of the pages that one mclick reads
_COMMANDS = 10  # of one call
_SESSIONS = 64  # conversations of a page whose lists of pages are kept
_OWN = ""  # the session of a chat that does not share the source
_DAY = 86_400
_CALL = re.compile(r"(\w+)\((.*)\)")  # upstream's notation, where it is not Python's
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_MARKS = str.maketrans("【】†", "[] ")


class SimpleBrowser(ToolSource):
    """The tool simple_browser for the `tools` of a chat. Each conversation has its own list of pages."""

    def __init__(self, documents: DocumentIndex) -> None:
        self._documents = documents
        self._lock = Lock()
        self._users = 0
        self._visits: dict[str, Visit] = {}  # the last used one at the end

    def open(self) -> None:
        """Count a chat that uses it."""
        with self._lock:
            self._users += 1

    def tools(self, taken: Collection[str] = ()) -> Sequence[Tool]:
        """Return the tool with the pages of this source."""
        return self.session_tools(_OWN, taken)

    def session_tools(self, session: str, taken: Collection[str] = ()) -> Sequence[Tool]:
        """Return the tool for one conversation."""

        def simple_browser(command: str) -> ToolOutput:
            """Search and read the local documents. Cite a page that was read by its mark, such as 【7†source】.

            Args:
                command: search("opening hours") to list pages, mclick([0, 2]) to read pages of the list by their
                    numbers, or open_url("fares.pdf") to read a document
            """
            return self._visit(session).run(command)

        return (Tool.built_in(simple_browser),)

    def _visit(self, session: str) -> "Visit":
        with self._lock:
            found = self._visits.pop(session, None) or Visit(self._documents)
            self._visits[session] = found
            while len(self._visits) > _SESSIONS:
                self._visits.pop(next(iter(self._visits)))
        return found

    def end_session(self, session: str) -> None:
        """Drop the pages of a conversation."""
        with self._lock:
            self._visits.pop(session, None)

    def close(self) -> None:
        """Drop the pages of all conversations, unless another chat still uses them."""
        with self._lock:
            self._users = max(0, self._users - 1)
            if not self._users:
                self._visits = {}


class CommandFailure(Exception):
    """The reason why a command has no result, for the model to read."""


class Visit:
    """The browser of one conversation: the pages of the last list, and the number of the next quote."""

    def __init__(self, documents: DocumentIndex) -> None:
        self._documents = documents
        self._links: list[DocumentPage] | None = None
        self._next_quote = _FIRST_QUOTE
        self._citations: list[Citation] = []

    def run(self, text: str) -> ToolOutput:
        """Run the commands of a call, one a line, and return their observations."""
        self._citations = []
        commands = [line.strip() for line in text.splitlines() if line.strip()] or [""]
        observations: list[Observation] = []
        failed = 0
        for command in commands[:_COMMANDS]:
            try:
                observations += self._run(command)
            except CommandFailure as exc:
                failed += 1
                observations.append((SYSTEM_ERROR, f"Error when executing command {command}\nError: {exc}"))
        if (left := len(commands) - _COMMANDS) > 0:
            observations.append((SYSTEM_ERROR, f"Error: a call has at most {_COMMANDS} commands; {left} did not run"))
        return ToolOutput(
            join_observations(observations), citations=tuple(self._citations), error=failed == len(commands)
        )

    def _run(self, command: str) -> list[Observation]:
        name, arguments, named = _parse(command)
        actions: Mapping[str, Callable[..., list[Observation]]] = {
            "search": self._search,
            "mclick": self._mclick,
            "open_url": self._open_url,
        }
        if name not in actions:
            raise CommandFailure(f"Parse Error: {command}; the commands are search, mclick and open_url")
        try:
            inspect.signature(actions[name]).bind(*arguments, **named)
        except TypeError as exc:
            raise CommandFailure(f"{name} does not accept these arguments") from exc
        return actions[name](*arguments, **named)

    def _search(self, query: str, recency_days: int = -1) -> list[Observation]:
        if not isinstance(query, str) or type(recency_days) is not int:
            raise CommandFailure("search takes a text and a number of days")
        since = time.time() - recency_days * _DAY if recency_days > 0 else 0.0
        found = self._documents.search(query, since=since)
        self._links = found
        if not found:
            days = f" that changed in the last {recency_days} days" if since else ""
            return [(BROWSER_RESULT, f"No page{days} has any of these words.\nVisible: 0% - 100%")]
        lines = []
        for number, page in enumerate(found):
            lines += [f" # {_link(number, page.heading, page.address)}", one_line(page.text, _SNIPPET)]
        return [(BROWSER_RESULT, "\n".join([*lines, "Visible: 0% - 100%"]))]

    def _mclick(self, ids: Sequence[int]) -> list[Observation]:
        if not isinstance(ids, list | tuple) or not ids:
            raise CommandFailure("mclick takes a list of numbers, such as mclick([0, 2])")
        if self._links is None:
            raise CommandFailure("No page state: search first")
        found, size = list[Observation](), 0
        for number in dict.fromkeys(ids):
            if type(number) is not int or not 0 <= number < len(self._links):
                found.append((SYSTEM_ERROR, _describe_click(number, f"Error parsing ID {number}")))
                continue
            page = self._links[number]
            if size and size + len(page.text) > _QUOTED:
                found.append((SYSTEM_ERROR, _describe_click(number, f"The result is full: mclick([{number}]) again")))
                continue
            size += len(page.text)
            found.append(self._quote(page))
        if not size:
            raise CommandFailure("\n".join(text for _, text in found))
        return found

    def _quote(self, page: DocumentPage) -> Observation:
        number = self._next_quote
        self._next_quote += 1
        self._citations.append(page.citation(number))
        return quote_result(number), re.sub(r"[\r\n]+", "\n", page.text)

    def _open_url(self, url: str) -> list[Observation]:
        if not isinstance(url, str):
            raise CommandFailure("open_url takes the address of a document")
        pages = self._documents.pages_of(url)
        if not pages:
            reason = "it is not a local document, and others are not opened" if _URL.match(url) else "there is none"
            raise CommandFailure(f"Failed to load page w/ URL: {url}: {reason}; search finds the documents")
        shown, rest = pages[0], pages[1:]
        self._links = rest
        links = [_link(number, page.heading, "") for number, page in enumerate(rest)]
        body = "\n".join([f"URL: {url}", shown.text, *links])
        visible = 100 * len(shown.text) // max(sum(len(page.text) for page in pages), 1)
        return [(BROWSER_RESULT, f"TITLE: {shown.heading}\n\n\n{body}\nVisible: 0% - {visible}%")]


def _link(number: int, title: str, address: str) -> str:
    host = f"†{address.translate(_MARKS)}" if address else ""
    return f"【{number}†{one_line(title).translate(_MARKS)}{host}】"


def _describe_click(number: object, feedback: str) -> str:
    state = "temporary=None permanent=None new_state=None final=None success=False"
    return f"recorded='click({number})' {state} feedback='{feedback}' metadata={{}}"


def _parse(command: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Return the name, the arguments and the named arguments of a command: a call in Python's notation, or what
    upstream's pattern finds. Raises CommandFailure."""
    try:
        call = ast.parse(command, mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            named = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
            return call.func.id, [ast.literal_eval(one) for one in call.args], named
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        pass
    match = _CALL.search(command)
    if match is None:
        raise CommandFailure(f"Parse Error: {command}")
    name, text = match[1], match[2].strip()
    if name == "mclick":
        return name, [[int(number) for number in re.findall(r"\d{1,6}", text)]], {}
    days = re.search(r",\s*(?:recency_days\s*[=:]\s*)?(-?\d{1,6})\s*$", text) if name == "search" else None
    text = text[: days.start()] if days else text
    return name, [text.strip().strip("\"'“”‘’`")], {"recency_days": int(days[1])} if days else {}
