"""Load the tools that `edge serve --tools MODULE:FUNCTION` names."""

from collections.abc import Sequence
from importlib import import_module

from runtime.errors import RequestError, ToolError
from runtime.tools import Tool, to_tools


def load_tools(names: Sequence[str]) -> tuple[Tool, ...]:
    """Import each MODULE:FUNCTION as a tool. Raises RequestError for a missing one, ToolError for an unsuitable one."""
    found = []
    for name in names:
        module, _, function = name.partition(":")
        if not module or not function:
            raise RequestError(f"{name} has no function name", hint="write it as MODULE:FUNCTION")
        try:
            found.append(getattr(import_module(module), function))
        except (ImportError, AttributeError) as exc:
            raise RequestError(
                f"{name} cannot be imported: {exc}", hint="check its name, and that its folder is in PYTHONPATH"
            ) from exc
        if not callable(found[-1]) and not isinstance(found[-1], Tool):
            raise ToolError(f"{name} is not a function", hint="pass a typed Python function, or an edge.Tool")
    return tuple(to_tools(found).values())
