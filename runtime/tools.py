"""Tools made of typed Python functions: a name, the docstring, and a JSON schema of the parameters by pydantic."""

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

from . import docstrings, tool_run
from .cancellation import Cancellation
from .checks import require, require_integer, require_seconds
from .errors import Notice, ToolError
from .messages import ToolCall, ToolResult
from .text import replace_json_surrogates, replace_surrogates_within


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model can call. `parameters` is the JSON schema of an object; `run` maps the arguments' JSON
    text to the text of the result.

    `run` may raise anything: the exception becomes the tool's result, for the model to read. `type` is "function", or
    the tool's name if `built_in` made it. A run that takes longer than `timeout` seconds is an error, and a result
    longer than `max_characters` is truncated; None leaves both limits to the chat.

    Raises ToolError for a field of the wrong type, RequestError for one out of range.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[[str], str]
    type: str = "function"
    timeout: float | None = None
    max_characters: int | None = None

    def __post_init__(self) -> None:
        for field, kind, wanted in (
            ("name", str, "text"),
            ("description", str, "text"),
            ("parameters", Mapping, "a JSON schema as a dict"),
            ("run", Callable, "a function that takes the arguments' JSON text"),
            ("type", str, "text"),
        ):
            require(f"a tool's {field}", getattr(self, field), kind, wanted, ToolError)  # type: ignore[arg-type]
        require_seconds("a tool's timeout", self.timeout)
        if self.max_characters is not None:
            require_integer("a tool's max_characters", self.max_characters, 100)
        if not self.name.strip():
            raise ToolError("a tool has no name", hint="name it as the model shall call it")
        try:
            for field in ("name", "description", "parameters"):
                object.__setattr__(self, field, replace_surrogates_within(getattr(self, field)))
        except RecursionError as exc:
            raise ToolError(
                f"the parameters of the tool {self.name} are nested too deeply", hint="simplify them"
            ) from exc

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
                f"the built-in tool {tool.name} is called with one text", hint="give it one parameter, of type str"
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

        `timeout` and `max_characters` are the tool's own limits. The function runs in the chat's tool thread, not in
        the caller's; it is always the same thread, unless a call exceeds its time limit. Raises ToolError if the
        function has no usable name, is a coroutine, or has a parameter without a type.
        """
        if isinstance(function, Tool):
            return replace(
                function,
                timeout=function.timeout if timeout is None else timeout,
                max_characters=function.max_characters if max_characters is None else max_characters,
            )
        name = getattr(function, "__name__", "")
        if not re.fullmatch(r"[A-Za-z_]\w{0,63}", name):
            raise ToolError(f"{function!r} has no name that a model could call", hint="define it with `def name(…)`")
        if inspect.iscoroutinefunction(function):
            raise ToolError(f"the tool {name} is async", hint="wrap it in a function that runs it to its end")
        arguments = _arguments_model(name, function)

        def run(text: str) -> str:
            given = arguments.model_validate_json(text)
            values = {
                field: getattr(given, field) for field in arguments.model_fields if field in given.model_fields_set
            }
            return _to_text(function(**values))

        if docstrings.are_stripped():
            what = f"the tool {name} has no description: PYTHONOPTIMIZE=2 leaves docstrings out"
            warnings.warn(what, Notice, stacklevel=2)
        description = inspect.cleandoc(function.__doc__ or "")
        schema = _without_titles(arguments.model_json_schema())
        return cls(name, description, schema, run, timeout=timeout, max_characters=max_characters)

    def to_json(self) -> dict[str, Any]:
        """Return what a chat template shows of the tool; `type` only if it is not a function."""
        shown = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return shown if self.type == "function" else shown | {"type": self.type}


def to_tools(tools: Iterable[Callable[..., Any] | Tool]) -> dict[str, Tool]:
    """Return the tools by name. Raises ToolError if two have the same name, or for anything but functions and Tools."""
    if isinstance(tools, str | Mapping) or not isinstance(tools, Iterable):
        raise ToolError(f"tools must be a list, not {type(tools).__name__}", hint="pass a list of functions")
    box: dict[str, Tool] = {}
    for tool in map(Tool.from_function, tools):
        if tool.name in box:
            raise ToolError(f"two tools are named {tool.name}", hint="rename one")
        box[tool.name] = tool
    return box


def run_call(
    tools: Mapping[str, Tool],
    requested: ToolCall,
    *,
    timeout: float | None = tool_run.TIMEOUT,
    max_characters: int = tool_run.MAX_CHARACTERS,
    cancellation: Cancellation | None = None,
    worker: tool_run.ToolWorker | None = None,
) -> ToolResult:
    """Run a call in the thread of `worker`, or in a new one.

    Unknown names, invalid arguments, exceptions of any kind, a run longer than `timeout` seconds and a cancellation all
    become the result, for the model to read. The result has at most `max_characters`.
    """

    def failed(text: str) -> ToolResult:
        return ToolResult(requested.id, requested.name, f"Error: {text}", error=True)

    if requested.name not in tools:
        return failed(f"there is no tool {requested.name}")
    if requested.problem:
        return failed(requested.problem)
    tool = tools[requested.name]
    text, error = tool_run.run(
        tool.name,
        lambda: _to_text(tool.run(replace_json_surrogates(requested.arguments))),
        _with_hint,
        timeout=timeout if tool.timeout is None else tool.timeout,
        longest=max_characters if tool.max_characters is None else tool.max_characters,
        cancellation=cancellation or Cancellation(),
        worker=worker or tool_run.ToolWorker(),
    )
    return failed(text) if error else ToolResult(requested.id, requested.name, text)


def _with_hint(exc: BaseException) -> str:
    from pydantic import ValidationError

    if isinstance(exc, ValidationError):
        return "; ".join(_describe_invalid(error) for error in exc.errors(include_url=False))
    if isinstance(exc, SystemExit):
        return f"the tool exited with {exc.code!r}"
    return f"{type(exc).__name__}: {exc}"


def _describe_invalid(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}" if where else str(error["msg"])


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
            raise ToolError(f"the tool {name} takes {parameter}", hint="give every parameter a name of its own")
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
            f"the tool {name} has no JSON schema: {first}", hint="take JSON types, dataclasses or pydantic models"
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
        elif not (key == "title" and isinstance(value, str)) and key != "additionalProperties":
            out[key] = _without_titles(value)
    return out


def _to_text(value: object) -> str:
    if isinstance(value, str):
        return value
    from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

    try:
        return to_json(value, fallback=str, inf_nan_mode="strings").decode()
    except PydanticSerializationError:  # a text in it is no Unicode, such as the name of a file from elsewhere
        plain = to_jsonable_python(replace_surrogates_within(value), fallback=str)
        return to_json(replace_surrogates_within(plain), inf_nan_mode="strings").decode()
