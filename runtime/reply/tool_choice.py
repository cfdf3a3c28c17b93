"""The choice whether a reply calls tools, and which: OpenAI's `tool_choice`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import RequestError
from ..text import quoted

Mode = Literal["auto", "none", "required"]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether a reply calls tools: if the model wants to ("auto"), never ("none"), or at least one ("required"). If
    there is a `name`, the required call is of that tool."""

    mode: Mode = "auto"
    name: str | None = None

    @classmethod
    def parse(cls, choice: str | Mapping[str, Any]) -> "ToolChoice":
        """Return the choice of a mode or a tool's name, or of OpenAI's object with the name of a function, in which
        each name is a tool's. Raises RequestError for anything else."""
        match choice:
            case "auto" | "none" | "required":
                return cls(choice)
            case str():
                return cls("required", choice)
            case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
                return cls("required", name)
        raise RequestError(
            f"the tool choice is {quoted(choice)}",
            hint=f"it may be {', '.join(get_args(Mode))}, the name of a tool that is offered, "
            'or {"type": "function", "function": {"name": NAME}}',
        )

    def requires(self, tool: str) -> bool:
        """Return whether the required call may be, or has to be, one of that tool."""
        return self.mode == "required" and self.name in (None, tool)

    def required_tools(self, offered: Sequence[str]) -> tuple[str, ...]:
        """Return the names of those tools of which the reply has to call at least one. Raises RequestError if a call is
        required, and there is no such tool."""
        if self.mode != "required":
            return ()
        names = tuple(filter(self.requires, offered))
        if not names:
            shown = "required" if self.name is None else quoted(self.name)
            raise RequestError(
                f"the tool choice is {shown}, but the tools offered are {', '.join(offered) or 'none'}",
                hint="it may be auto, none, required, or the name of a tool that is offered",
            )
        return names
