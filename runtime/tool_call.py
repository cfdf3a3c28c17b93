"""Run a tool call. Whatever happens becomes its result, for the model to read."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from . import tool_run
from .cancellation import Cancellation
from .events import ToolCall, ToolResult
from .text import replace_json_surrogates
from .tool_output import ToolOutput
from .tools import Tool

if TYPE_CHECKING:
    import asyncio


class ToolFailure(Exception):
    """A failure of a tool in its own words, which the model reads without the name of a Python class."""


def run_call(
    tools: Mapping[str, Tool],
    requested: ToolCall,
    *,
    timeout: float | None = tool_run.TIMEOUT,
    max_characters: int = tool_run.MAX_CHARACTERS,
    cancellation: Cancellation | None = None,
    worker: tool_run.ToolWorker | None = None,
    loop: "asyncio.AbstractEventLoop | None" = None,
) -> ToolResult:
    """Run a call in the thread of `worker`, or in a new one; that of an async tool in its own loop or else in `loop`,
    while the thread waits.

    Unknown names, invalid arguments, exceptions of any kind, a run longer than `timeout` seconds and a cancellation all
    become the result. The result has at most `max_characters`.
    """
    if requested.name not in tools:
        return failed(requested, f"there is no tool {requested.name}")
    if requested.problem:
        return failed(requested, requested.problem)
    tool = tools[requested.name]
    loop = tool.loop or loop
    if tool.run is None or (tool.is_async and loop is None):
        raise TypeError(f"the tool {tool.name} cannot be run here")
    arguments = replace_json_surrogates(requested.arguments)
    call = _AsyncCall(loop, lambda: cast(Any, tool.run)(arguments)) if tool.is_async and loop is not None else None
    output, error = tool_run.run(
        tool.name,
        call or (lambda: cast(Callable[[str], str | ToolOutput], tool.run)(arguments)),
        _with_hint,
        timeout=timeout if tool.timeout is None else tool.timeout,
        longest=max_characters if tool.max_characters is None else tool.max_characters,
        cancellation=cancellation or Cancellation(),
        worker=worker or tool_run.ToolWorker(),
    )
    if call is not None:
        call.cancel()
    if error:
        return failed(requested, output.text)
    return ToolResult(
        requested.id, requested.name, output.text, output.error, pictures=output.pictures, citations=output.citations
    )


def failed(call: ToolCall, text: str) -> ToolResult:
    """Return the result of a call that did not succeed."""
    return ToolResult(call.id, call.name, f"Error: {text}", error=True)


class _AsyncCall:
    """A call of an async tool, started in the tools' thread and run in an event loop."""

    def __init__(self, loop: "asyncio.AbstractEventLoop", start: Callable[[], Any]) -> None:
        self._loop = loop
        self._start = start
        self._cancelled = Cancellation()

    def __call__(self) -> str | ToolOutput:
        import asyncio

        future = asyncio.run_coroutine_threadsafe(self._start(), self._loop)

        def cancel() -> None:
            future.cancel()

        with self._cancelled.on_cancel(cancel):
            result = future.result()
            return result if isinstance(result, ToolOutput) else str(result)

    def cancel(self) -> None:
        """Cancel the tool's task if it still runs."""
        self._cancelled.cancel()


def _with_hint(exc: BaseException) -> str:
    from pydantic import ValidationError

    if isinstance(exc, ToolFailure):
        return str(exc)
    if isinstance(exc, ValidationError):
        return "; ".join(_describe_invalid(error) for error in exc.errors(include_url=False))
    if isinstance(exc, SystemExit):
        return f"the tool exited with {exc.code!r}"
    return f"{type(exc).__name__}: {exc}"


def _describe_invalid(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}" if where else str(error["msg"])
