"""Tools: typed Python functions, or definitions in the layouts of OpenAI's and Anthropic's APIs. A tool has a name, a
description, and a JSON schema of its parameters, which pydantic makes of a function's."""

import inspect
import json
import re
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from . import docstrings
from .checks import require, require_integer, require_seconds
from .errors import Notice, ToolError
from .text import replace_surrogates_within
from .tool_output import ToolOutput, to_output

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
ToolResultLike = str | ToolOutput
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}
_OTHER_SCHEMAS = frozenset({"input_schema", "inputSchema"})  # Anthropic's and MCP's, whose other fields are no model's


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model can call. `parameters` is the JSON schema of an object; `run` maps the arguments' JSON
    text to the result: its text, or a ToolOutput with pictures and citations beside it.

    `run` may raise anything: the exception becomes the tool's result, for the model to read. It may be async, for an
    AsyncChat, or for any chat if `loop` is a running event loop of another thread. None is a tool that the application
    runs itself: a call of it ends the reply, and its result is sent as a message of the role "tool". `type` is
    "function", or the tool's name if `built_in` made it. A run that takes longer than `timeout` seconds is an error,
    and a result longer than `max_characters` is truncated; None leaves both limits to the chat. With `approval`, the
    terminal and the chat page ask a person before each call; in Python, a chat's `approve` decides. `definition` is the
    JSON object that `from_json` read: a chat template shows its fields in their order, those that are not known here
    too.

    Raises ToolError for a field of the wrong type, RequestError for one out of range.

    Example:
        def add(a: int, b: int) -> int:
            "Add two numbers."
            return a + b

        with edge.Chat("./glm4-int4", tools=[edge.Tool.from_function(add, timeout=5)]) as calculator:
            print(calculator.send("What is 1 + 2?"))
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[[str], ToolResultLike | Awaitable[ToolResultLike]] | None = None
    type: str = "function"
    timeout: float | None = None
    max_characters: int | None = None
    definition: Mapping[str, Any] = field(default_factory=dict)
    loop: "asyncio.AbstractEventLoop | None" = None
    approval: bool = False

    def __post_init__(self) -> None:
        for name, kind, wanted in (
            ("name", str, "text"),
            ("description", str, "text"),
            ("parameters", Mapping, "a JSON schema as a dict"),
            ("run", Callable | None, "a function that takes the arguments' JSON text"),
            ("type", str, "text"),
            ("definition", Mapping, "a dict"),
        ):
            require(f"a tool's {name}", getattr(self, name), kind, wanted, ToolError)  # type: ignore[arg-type]
        require_seconds("a tool's timeout", self.timeout)
        if self.max_characters is not None:
            require_integer("a tool's max_characters", self.max_characters, 100)
        if not self.name.strip():
            raise ToolError("a tool has no name", hint="set the name by which the model calls it")
        try:
            for name in ("name", "description", "parameters", "definition"):
                object.__setattr__(self, name, replace_surrogates_within(getattr(self, name)))
        except RecursionError as exc:
            raise ToolError(
                f"the parameters of the tool {self.name} are nested too deeply", hint="simplify them"
            ) from exc

    @property
    def is_async(self) -> bool:
        """Whether `run` is a coroutine function."""
        return inspect.iscoroutinefunction(self.run) or inspect.iscoroutinefunction(
            getattr(self.run, "__call__", None)  # noqa: B004
        )

    @classmethod
    def built_in(cls, function: Callable[..., Any]) -> "Tool":
        """Make a tool that GLM-4 of 2024 knows from its training: `python`, `simple_browser` or `cogview`.

        The checkpoint's template describes it in its own words, and the model calls it with plain text, which becomes
        the function's one parameter, a string. To other models it is a function like any other. Raises ToolError like
        `from_function`, or if the function has other parameters.
        """
        tool = cls.from_function(function)
        parameters = list(tool.parameters["properties"].values())
        if [parameter.get("type") for parameter in parameters] != ["string"]:
            raise ToolError(
                f"the built-in tool {tool.name} is called with one text", hint="define one parameter, of type str"
            )
        return replace(tool, type=tool.name)

    @classmethod
    def from_function(
        cls,
        function: "Callable[..., Any] | Tool",
        *,
        timeout: float | None = None,
        max_characters: int | None = None,
    ) -> "Tool":
        """Make a tool of a function. Describe parameters with `Annotated[str, pydantic.Field(description="…")]`.

        It may return a text, a Picture, a list of texts and pictures, a ToolOutput, or what has a JSON form.
        `timeout` and `max_characters` are the tool's own limits. The function runs in the chat's tool thread, not in
        the caller's; it is always the same thread, unless a call exceeds its time limit. An `async def` runs in the
        event loop of an AsyncChat; a Chat rejects it. Raises ToolError if the function has no usable name, or has a
        parameter without a type.
        """
        if isinstance(function, Tool):
            return replace(
                function,
                timeout=function.timeout if timeout is None else timeout,
                max_characters=function.max_characters if max_characters is None else max_characters,
            )
        name = getattr(function, "__name__", "")
        if not re.fullmatch(r"[^\W\d]\w{0,63}", name):
            raise ToolError(f"{function!r} has no name that a model could call", hint="define it with `def name(…)`")
        arguments = _arguments_model(name, function)

        def parse(text: str) -> dict[str, Any]:
            given = arguments.model_validate_json(text)
            return {name: getattr(given, name) for name in arguments.model_fields if name in given.model_fields_set}

        def run(text: str) -> ToolOutput:
            return to_output(function(**parse(text)))

        async def run_async(text: str) -> ToolOutput:
            return to_output(await function(**parse(text)))

        if docstrings.are_stripped():
            what = f"the tool {name} has no description: PYTHONOPTIMIZE=2 leaves docstrings out"
            warnings.warn(what, Notice, stacklevel=2)
        description = inspect.cleandoc(function.__doc__ or "")
        schema = _without_titles(arguments.model_json_schema())
        del schema["additionalProperties"]  # a function takes no others anyway
        started = run_async if inspect.iscoroutinefunction(function) else run
        return cls(name, description, schema, started, timeout=timeout, max_characters=max_characters)

    @classmethod
    def from_json(cls, definition: Mapping[str, Any]) -> "Tool":
        """Make a tool, which the application runs, of its definition in the layout of OpenAI's Chat Completions or
        Responses, Ollama's, Anthropic's or MCP's API. Fields of OpenAI's functions that are not known here reach the
        chat template. Raises ToolError."""
        inner = definition.get("function", definition)
        require("a tool's function", inner, Mapping, "a dict with name, description and parameters", ToolError)
        kind = definition.get("type", "function")
        name = inner.get("name")
        if not isinstance(name, str) or not name:
            raise ToolError(
                "a tool's definition has no name",
                hint='it looks like {"type": "function", "function": {"name": …, "description": …, "parameters": …}}',
            )
        shown = {key: value for key, value in inner.items() if value is not None and key != "type"}
        schemas = (shown.get(key) for key in ("parameters", *_OTHER_SCHEMAS))
        parameters = next((schema for schema in schemas if schema is not None), _NO_PARAMETERS)
        found = cls(
            name,
            shown.get("description", ""),
            parameters,
            type=name if kind == name else "function",
            definition={} if shown.keys() & _OTHER_SCHEMAS else shown,
        )
        try:
            json.dumps(found.definition)
        except (TypeError, ValueError) as exc:
            raise ToolError(f"the definition of the tool {name} is not JSON: {exc}", hint="use JSON types") from exc
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what a chat template shows of the tool: of one with a `definition`, all of its fields; `type` only if
        it is not a function."""
        known = {"name": self.name, "description": self.description, "parameters": self.parameters}
        if self.definition:
            left_out = {"description": "", "parameters": _NO_PARAMETERS}
            added = {key: value for key, value in known.items() if value != left_out.get(key)}
            known = {key: known.get(key, value) for key, value in self.definition.items()} | added
        return known if self.type == "function" else known | {"type": self.type}


ToolLike = Callable[..., Any] | Tool | Mapping[str, Any]
"""A typed function, a Tool, or a definition as `Tool.from_json` takes it.

Example:
    tools: list[edge.ToolLike] = [{"type": "function", "function": {"name": "ring", "parameters": {}}}]
"""


def to_tool(tool: ToolLike) -> Tool:
    """Return a Tool of a typed function, a Tool, or a definition. Raises ToolError."""
    return Tool.from_json(tool) if isinstance(tool, Mapping) else Tool.from_function(tool)


def to_tools(tools: Iterable[ToolLike]) -> dict[str, Tool]:
    """Return the tools by name. Raises ToolError if two have the same name, or for what is no tool."""
    box: dict[str, Tool] = {}
    for tool in map(to_tool, require_list(tools)):
        if tool.name in box:
            raise ToolError(f"two tools are named {tool.name}", hint="rename one")
        box[tool.name] = tool
    return box


def require_list(tools: Iterable[T]) -> Iterable[T]:
    """Return the tools. Raises ToolError unless they are a list or another iterable of tools."""
    if isinstance(tools, str | Mapping) or not isinstance(tools, Iterable):
        raise ToolError(f"tools must be a list, not {type(tools).__name__}", hint="pass a list of functions")
    return tools


def to_definitions(tools: Iterable[ToolLike]) -> Sequence[Mapping[str, Any]]:
    """Return the tools as a chat template takes them: name, mostly description and parameters, any other fields, and
    `type` of a built-in one. Definitions in this layout stay as they are. Raises ToolError."""
    if isinstance(tools, list | tuple) and all(
        isinstance(tool, Mapping) and "name" in tool and "parameters" in tool and tool.get("type") != "function"
        for tool in tools
    ):
        return tools
    return [tool.to_json() for tool in to_tools(tools).values()]


def _arguments_model(name: str, function: Callable[..., Any]) -> Any:
    from pydantic import ConfigDict, PydanticUserError, create_model

    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as exc:
        raise ToolError(
            f"the types of the tool {name} cannot be read: {exc}", hint="import them where it is defined"
        ) from exc
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ToolError(f"the tool {name} takes {parameter}", hint="declare each parameter by name")
        if parameter.name not in hints:
            raise ToolError(
                f"the parameter {parameter.name} of the tool {name} has no type", hint="annotate it, as in x: str"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    try:
        model = create_model(name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
        model.model_json_schema()
    except (PydanticUserError, NameError, TypeError) as exc:
        first = str(exc).splitlines()[0]
        raise ToolError(
            f"the tool {name} has no JSON schema: {first}", hint="use JSON types, dataclasses or pydantic models"
        ) from exc
    return model


def _without_titles(schema: Any) -> Any:
    """Return the schema without pydantic's titles, which tell a model nothing beyond the names."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            out[key] = {name: _without_titles(item) for name, item in value.items()}
        elif key in ("default", "enum", "const", "examples"):
            out[key] = value
        elif not (key == "title" and isinstance(value, str)):
            out[key] = _without_titles(value)
    return out
