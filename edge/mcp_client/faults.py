"""Why an MCP server could not be started or connected to, as an error with a cure."""

from runtime.errors import ToolError
from runtime.system import network
from runtime.text import one_line, quoted

from .config import ServerConfig


def innermost(exc: BaseException) -> BaseException:
    """Return the first exception in a group, or the exception itself: the SDK's tasks raise groups of groups."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def first_line(exc: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its class."""
    found = innermost(exc)
    return one_line(str(found).strip().partition("\n")[0]) or type(found).__name__


def start_error(config: ServerConfig, exc: BaseException, status: int | None, stderr: str) -> ToolError:
    """Return the error for a server that cannot be used: `exc` from its start, the last HTTP status that is an error,
    and the last line of its standard error."""
    cause, server = innermost(exc), f"the MCP server {config.name}"
    if isinstance(cause, ToolError):
        return cause
    if config.command:
        return _process_error(config, cause, server, stderr)
    if status is not None:
        return ToolError(
            f"{server} answered with HTTP {status}",
            hint='check its url, and the "headers" with its token' if status in (401, 403) else "check its url",
        )
    if fault := network.explain(exc if cause is exc else cause, config.url):
        return ToolError(f"{server} cannot be reached: {fault.cause}", hint=fault.hint or "check its url")
    return ToolError(
        f"{server} cannot be used: {first_line(cause)}", hint='check its url, and whether its "type" is http or sse'
    )


def _process_error(config: ServerConfig, cause: BaseException, server: str, stderr: str) -> ToolError:
    program = quoted(config.command[0])
    if isinstance(cause, OSError) and config.cwd and cause.filename == config.cwd:
        return ToolError(f"{server} cannot be started: there is no folder {quoted(config.cwd)}", hint="correct its cwd")
    if isinstance(cause, FileNotFoundError):
        return ToolError(
            f"{server} cannot be started: there is no program {program}", hint="install it, or correct its command"
        )
    if isinstance(cause, OSError) and cause.errno:
        return ToolError(
            f"{server} cannot be started: {program}: {cause.strerror}", hint="check its command and its permissions"
        )
    said = f": {stderr}" if stderr else ""
    return ToolError(
        f"{server} did not start{said}", hint="run its command in a terminal, to see what it needs on standard input"
    )
