"""The tool python: code in a sandbox, whose variables live on from one call to the next of a chat."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from threading import Lock, Timer

from runtime.errors import RequestError
from runtime.isolation.session import UNCONFINED, CellResult, PythonSession, SessionLimits, find_confinement
from runtime.pictures import Picture
from runtime.tool_call import ToolFailure
from runtime.tool_output import ToolOutput
from runtime.toolbox import ToolSource
from runtime.tools import Tool

_SESSIONS = 8  # conversations of a page whose variables are kept
_IDLE_SECONDS = 900.0
_OWN = ""  # the session of a chat that does not share the source


class PythonTool(ToolSource):
    """The tool python for the `tools` of a chat. Its process starts with the first call, and ends with the chat, or
    after 15 minutes without a call; the next call starts another one. Opening it raises ToolError where the machine
    offers no sandbox, unless `allow_unsandboxed`."""

    def __init__(
        self, *, approval: bool = True, allow_unsandboxed: bool = False, limits: SessionLimits | None = None
    ) -> None:
        self._approval = approval
        self._allow_unsandboxed = allow_unsandboxed
        self._limits = limits or SessionLimits()
        self._lock = Lock()
        self._users = 0
        self._how = ""
        self._sessions: dict[str, _TimedSession] = {}  # the last used one at the end

    def open(self) -> None:
        """Find out how the machine can confine a process. Raises ToolError if it cannot."""
        with self._lock:
            if not self._users:
                self._how = UNCONFINED if self._allow_unsandboxed and not _is_confinable() else find_confinement()
            self._users += 1

    def tools(self, taken: Collection[str] = ()) -> Sequence[Tool]:
        """Return the tool with the session of this source."""
        return self.session_tools(_OWN, taken)

    def session_tools(self, session: str, taken: Collection[str] = ()) -> Sequence[Tool]:
        """Return the tool for one conversation."""

        def python(code: str) -> ToolOutput:
            """Run Python code as a cell of a notebook, and return its output. Variables are kept for the next call.
            There is no network. Files can be written in the current folder alone. Plots of matplotlib are shown.

            Args:
                code: the code; the value of its last expression is part of the output
            """
            return self._run(session, code)

        return (replace(Tool.built_in(python), approval=self._approval),)

    def _run(self, session: str, code: str) -> ToolOutput:
        found = self._find(session)
        result = found.run(code)
        if result.lost:
            raise ToolFailure(f"{result.lost}; the interpreter was restarted, and its variables and files are lost")
        pictures = tuple(_pictures(result))
        return ToolOutput(result.text.rstrip("\n") or ("" if pictures else "[no output]"), pictures)

    def _find(self, session: str) -> "_TimedSession":
        ended: list[_TimedSession] = []
        with self._lock:
            if not self._users:
                raise ToolFailure("the chat is closed")
            found = self._sessions.pop(session, None) or _TimedSession(self._how, self._limits)
            self._sessions[session] = found
            while len(self._sessions) > _SESSIONS:
                ended.append(self._sessions.pop(next(iter(self._sessions))))
        for one in ended:
            one.close()
        return found

    def end_session(self, session: str) -> None:
        """End the process of a conversation."""
        with self._lock:
            found = self._sessions.pop(session, None)
        if found is not None:
            found.close()

    def close(self) -> None:
        """End all processes, unless another chat still uses them."""
        with self._lock:
            self._users = max(0, self._users - 1)
            ended = () if self._users else tuple(self._sessions.values())
            if not self._users:
                self._sessions = {}
        for one in ended:
            one.close()


class _TimedSession:
    """A session whose process ends when nobody has used it for a while."""

    def __init__(self, how: str, limits: SessionLimits) -> None:
        self._session = PythonSession(how, limits)
        self._timer: Timer | None = None

    def run(self, code: str) -> CellResult:
        if self._timer is not None:
            self._timer.cancel()
        try:
            return self._session.run(code)
        finally:
            self._timer = Timer(_IDLE_SECONDS, self._session.close)
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._session.close()


def _is_confinable() -> bool:
    from runtime.errors import ToolError

    try:
        return bool(find_confinement())
    except ToolError:
        return False


def _pictures(result: CellResult) -> Sequence[Picture]:
    found = []
    for data in result.pictures:
        try:
            found.append(Picture.open(data))
        except RequestError as exc:  # no PNG, or Pillow is missing
            raise ToolFailure(f"{result.text}\nThe plot cannot be shown: {exc}".strip()) from exc
    return found
