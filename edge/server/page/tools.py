"""Loading the tools that `edge serve --tools MODULE:FUNCTION` names."""

from collections.abc import Sequence
from importlib import import_module

from runtime.errors import RequestError, ToolError
from runtime.tools import Tool, to_tools


def load_tools(names: Sequence[str]) -> tuple[Tool, ...]:
    """Import each MODULE:FUNCTION as a tool. Raises RequestError if it does not exist, ToolError if it is no tool."""
    found = []
    for name in names:
        module, _, function = name.partition(":")
        if not module or not function:
            raise RequestError(f"{name} names no function", hint="write it as MODULE:FUNCTION")
        try:
            found.append(getattr(import_module(module), function))
        except (ImportError, AttributeError) as exc:
            raise RequestError(f"there is no {name}: {exc}", hint="is its folder in PYTHONPATH?") from exc
        if not callable(found[-1]) and not isinstance(found[-1], Tool):
            raise ToolError(f"{name} is no function", hint="name a typed Python function, or an edge.Tool")
    return tuple(to_tools(found).values())
