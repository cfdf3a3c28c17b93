"""The common part of OpenAI's two chat APIs: a request for a reply with tools and formats, in the runtime's terms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from runtime.cancellation import Cancellation
from runtime.errors import RequestError, UnsupportedGrammar
from runtime.grammar.grammar import Grammar, JsonObject, JsonSchema
from runtime.messages import Message
from runtime.model import Model
from runtime.reply.generation import Constraint
from runtime.sampling import Sampling

from ..errors import ApiError
from ..limits import Limits
from ..pool.dispatcher import ReplyJob
from ..pool.workers import ReplyEvents
from .schema_limits import check_enforceable, check_size


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the client runs. With `strict`, its schema constrains each call. `param` is the field of the request
    that has the schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool
    param: str

    @classmethod
    def create(
        cls,
        name: str,
        description: str | None,
        parameters: Mapping[str, Any] | None,
        strict: bool | None,
        *,
        choice: str,
        limits: Limits,
        param: str,
    ) -> "ToolSpec":
        """Create the tool. Raises ApiError if the schema is too large, or a call has to match it and it cannot be
        enforced."""
        schema = parameters or {"type": "object", "properties": {}}
        (check_enforceable if strict or choice in ("required", name) else check_size)(schema, limits, param)
        return cls(name, description or "", schema, bool(strict), param)

    def to_json(self) -> dict[str, Any]:
        """Return the tool as the runtime and the chat template expect it."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """Everything that determines a reply. `format_param` is the field of the request that has the reply's format."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    sampling: Sampling
    constraint: Constraint
    format_param: str

    @classmethod
    def create(
        cls,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        choice: str,
        answer: Grammar | None,
        sampling: Sampling,
        *,
        parallel: bool,
        format_param: str,
    ) -> "GenerationParams":
        """Create the parameters. `choice` is "auto", "none", "required" or a tool's name. Raises ApiError if the tools
        or the choice cannot be enforced."""
        names = [tool.name for tool in tools]
        if len(set(names)) < len(names):
            raise ApiError(400, "two tools have the same name", param="tools", code="invalid_value")
        offered = () if choice == "none" else tuple(tools)
        try:
            constraint = Constraint.for_tools([tool.to_json() for tool in offered], choice)
            strict = {tool.name: JsonSchema.from_schema(tool.parameters) for tool in offered if tool.strict}
        except RequestError as exc:
            raise ApiError(400, f"{exc}; {exc.hint}", param="tool_choice", code="invalid_value") from exc
        constraint = replace(constraint, arguments={**constraint.arguments, **strict}, one_call=not parallel)
        if answer is not None and not constraint.must_call:
            constraint = replace(constraint, answer=answer, may_call=tuple(tool.name for tool in offered))
        return cls(tuple(messages), offered, sampling, constraint, format_param)

    def with_seed_offset(self, index: int) -> "GenerationParams":
        """Return the parameters of another of several replies, with a seed of its own."""
        seed = self.sampling.seed
        return self if seed is None else replace(self, sampling=replace(self.sampling, seed=(seed + index) % 2**31))

    def grammar_error(self, error: UnsupportedGrammar) -> ApiError:
        """Map an engine's rejection of a grammar to an error that names the field with its schema."""
        arguments = self.constraint.arguments
        tool = next((tool for tool in self.tools if arguments.get(tool.name) == error.grammar), None)
        param = tool.param if tool and error.grammar != self.constraint.answer else self.format_param
        return ApiError(400, f"{error}; {error.hint}", param=param, code="invalid_value")


class GenerationJob(ReplyJob):
    """The replies of a chat request. Its parameters are built once, in the thread that needs them first."""

    def __init__(
        self, model: str | None, count: int, to_params: Callable[[Model], GenerationParams], *, needs_check: bool
    ) -> None:
        super().__init__(model, count)
        self.needs_check = needs_check
        self._to_params = to_params
        self._params: GenerationParams | None = None

    def check(self, model: Model, cancellation: Cancellation) -> None:
        """Reject a grammar that the engine rejects or cannot compile in time."""
        for grammar in self._build_params(model).constraint.grammars():
            model.backend.admit(grammar, cancellation)

    def start(self, model: Model, index: int) -> ReplyEvents:
        """Begin the reply of that index."""
        params = self._build_params(model).with_seed_offset(index)
        tools = [tool.to_json() for tool in params.tools]
        return model.reply(params.messages, tools, params.sampling, params.constraint)

    def map_error(self, error: BaseException) -> BaseException:
        """Name the field whose grammar the engine rejects."""
        if self._params is None or not isinstance(error, UnsupportedGrammar):
            return error
        mapped = self._params.grammar_error(error)
        mapped.__cause__ = error
        return mapped

    def _build_params(self, model: Model) -> GenerationParams:
        if self._params is None:
            self._params = self._to_params(model)
        return self._params


def check_tool_count(tools: Sequence[Any] | None, limits: Limits) -> None:
    """Raise ApiError for more tools than are allowed."""
    if tools and len(tools) > limits.tools:
        raise ApiError(400, f"there are more than {limits.tools:,} tools", param="tools", code="too_many")


def response_grammar(
    kind: Literal["text", "json_object", "json_schema"], schema: Mapping[str, Any] | None, limits: Limits, param: str
) -> Grammar | None:
    """Return the grammar of a response format; None for text. Raises ApiError for a schema that cannot be enforced."""
    match kind:
        case "text":
            return None
        case "json_object" if schema is None:
            return JsonObject()
    if schema is None:
        raise ApiError(400, "a JSON schema is missing", param=param, code="missing_required_parameter")
    check_enforceable(schema, limits, param)
    return JsonSchema.from_schema(schema)
