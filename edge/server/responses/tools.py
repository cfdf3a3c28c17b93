"""The tools of a response: functions, custom tools, and those of other types, which are left out and named."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from runtime.reply.tool_choice import Mode, ToolChoice
from runtime.text import one_line, quoted

from ..errors import ApiError
from ..generation.fields import LIST_LIMIT, FunctionName, RequestModel
from ..openai.chat_request import ToolFunction

LEFT_OUT = "edge.tools_left_out"  # the key of the reply's metadata that names them


class FlatTool(ToolFunction):
    """A function that the client runs."""

    type: Literal["function"]


class CustomTool(RequestModel):
    """A tool that the client runs with one text. A `format` other than text is a grammar, which is not supported."""

    type: Literal["custom"]
    name: FunctionName
    description: str | None = None
    format: dict[str, Any] | None = None

    @property
    def function(self) -> ToolFunction:
        """The function with one string that the model is offered in its place."""
        text = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
        own = {"description": self.description} if self.description else {}
        return ToolFunction.model_validate({"name": self.name} | own | {"parameters": text})


class OtherTool(RequestModel):
    """A tool of another type, such as web_search: it is not offered to the model."""

    model_config = ConfigDict(extra="allow")

    type: str


def _tag(tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return (
        {"function": "FlatTool", "custom": "CustomTool"}.get(kind, "OtherTool")
        if isinstance(kind, str)
        else "OtherTool"
    )


ResponseTool = Annotated[
    Annotated[FlatTool, Tag("FlatTool")]
    | Annotated[CustomTool, Tag("CustomTool")]
    | Annotated[OtherTool, Tag("OtherTool")],
    Discriminator(_tag),
]


class ChosenTool(RequestModel):
    """A tool of a choice."""

    model_config = ConfigDict(extra="allow")

    type: str
    name: str | None = None


class AllowedTools(RequestModel):
    """The choice of some of the tools."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[list[ChosenTool], LIST_LIMIT]


ResponseChoice = Mode | Annotated[AllowedTools | ChosenTool, Field(union_mode="left_to_right")]


@dataclass(frozen=True, slots=True)
class ToolSelection:
    """The tools that are `offered` to the model, each with its place in the request, and the `choice` among them.
    `custom` are the names of those that are called with a text, `left_out` the types of those that are not offered."""

    offered: tuple[tuple[int, ToolFunction], ...]
    choice: ToolChoice
    custom: frozenset[str]
    left_out: tuple[str, ...]

    @property
    def metadata(self) -> dict[str, str]:
        """The entry of the reply's metadata that names the tools that were left out."""
        return {LEFT_OUT: ", ".join(self.left_out)[:512]} if self.left_out else {}


def select_tools(tools: "Sequence[FlatTool | CustomTool | OtherTool]", choice: Any) -> ToolSelection:
    """Return the tools that are supported. Raises ApiError if the choice demands one that is not."""
    offered: list[tuple[int, ToolFunction]] = []
    custom, left_out = set(), []
    for index, tool in enumerate(tools):
        if isinstance(tool, FlatTool):
            offered.append((index, tool))
        elif isinstance(tool, CustomTool) and (tool.format or {}).get("type", "text") == "text":
            custom.add(tool.name)
            offered.append((index, tool.function))
        else:
            left_out.append(_describe(tool))
    found = ToolSelection(tuple(offered), ToolChoice(), frozenset(custom), tuple(dict.fromkeys(left_out)))
    match choice:
        case None:
            return found
        case "auto" | "none" | "required":
            return replace(found, choice=ToolChoice(choice))
        case AllowedTools():
            allowed = [_require_offered(found, tool) for tool in choice.tools]
            kept = tuple((index, tool) for index, tool in found.offered if tool.name in allowed)
            return replace(found, offered=kept, choice=ToolChoice(choice.mode))
    return replace(found, choice=ToolChoice("required", _require_offered(found, choice)))


def _require_offered(found: ToolSelection, chosen: ChosenTool) -> str:
    """Return the name of a chosen tool. Raises ApiError for one of a type that is not supported."""
    if chosen.type not in ("function", "custom"):
        message = f"tool_choice demands a tool of the type {quoted(chosen.type)}, which is not supported"
        raise ApiError(400, message, param="tool_choice", code="unsupported_parameter")
    if chosen.name is None or chosen.name not in {tool.name for _, tool in found.offered}:
        message = f"tool_choice names {quoted(chosen.name)}, which is not among the tools"
        raise ApiError(400, message, param="tool_choice", code="invalid_value")
    return chosen.name


def _describe(tool: CustomTool | OtherTool) -> str:
    name = tool.name if isinstance(tool, CustomTool) else (tool.model_extra or {}).get("name")
    return one_line(f"{tool.type} {name}" if isinstance(name, str) and name else tool.type, 80)
