"""The parameters of a reply with tools and formats, in the runtime's terms, whichever API asks for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runtime.context_window import ContextWindow
from runtime.errors import RequestError, UnsupportedGrammar
from runtime.grammar.grammar import Grammar, JsonSchema
from runtime.messages import Message
from runtime.model import Model
from runtime.reply.constraint import Constraint
from runtime.reply.tool_choice import ToolChoice
from runtime.sampling import Sampling
from runtime.tools import Tool

from ..errors import ApiError
from ..limits import Limits
from ..logs.log import LOG
from .reply_format import ReplyFormat
from .schema_limits import check_size


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the client runs. The arguments of each call follow its `grammar`, if there is one. `param` is the
    field of the request that has the schema."""

    tool: Tool
    grammar: Grammar | None
    param: str

    @classmethod
    def create(
        cls,
        tool: Tool,
        *,
        strict: bool,
        choice: ToolChoice,
        limits: Limits,
        param: str,
    ) -> "ToolSpec":
        """Create the tool. Its schema is enforced if it is `strict`; if its call is required, where it is supported.
        Raises ApiError for a schema that is too large, or that has to be enforced and is invalid."""
        check_size(tool.parameters, limits, param)
        grammar = None
        if strict or choice.requires(tool.name):
            try:
                grammar = JsonSchema.of_arguments(tool.parameters or {"type": "object"}, strict=strict)
            except RequestError as exc:
                raise ApiError(400, f"{exc}; {exc.hint}", param=param, code="invalid_value") from exc
        return cls(tool, grammar, param)

    @property
    def name(self) -> str:
        """The name by which the model calls the tool."""
        return self.tool.name


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """Everything that determines a reply. `format_param` is the field of the request that has the reply's format."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    sampling: Sampling
    constraint: Constraint
    format_param: str
    template_variables: Mapping[str, Any]

    @classmethod
    def create(
        cls,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        form: ReplyFormat | None,
        sampling: Sampling,
        *,
        limits: Limits,
        parallel: bool,
        template_variables: Mapping[str, Any] | None = None,
    ) -> "GenerationParams":
        """Create the parameters. Raises ApiError if the tools, the choice or the format cannot be enforced."""
        names = [tool.name for tool in tools]
        if len(set(names)) < len(names):
            raise ApiError(400, "two tools have the same name", param="tools", code="invalid_value")
        offered = () if choice.mode == "none" else tuple(tools)
        try:
            must_call = choice.required_tools([tool.name for tool in offered])
        except RequestError as exc:
            raise ApiError(400, f"{exc}; {exc.hint}", param="tool_choice", code="invalid_value") from exc
        arguments = {tool.name: tool.grammar for tool in offered if tool.grammar}
        constraint = Constraint(arguments=arguments, must_call=must_call, one_call=not parallel)
        answer = form.grammar(limits) if form else None
        if answer is not None and not must_call:
            constraint = replace(constraint, answer=answer, may_call=tuple(tool.name for tool in offered))
        return cls(tuple(messages), offered, sampling, constraint, form.param if form else "", template_variables or {})

    def count_tokens(self, model: Model) -> int:
        """Return the number of tokens in the prompt. Raises TemplateError if the template rejects the messages."""
        tools = [spec.tool.to_json() for spec in self.tools]
        prompt = model.prompt(self.messages, tools, template_variables=self.template_variables or None)
        return model.backend.count_tokens(prompt)

    def fit(self, model: Model) -> "GenerationParams":
        """Return the parameters with the messages that fit the context beside the reply: the oldest turns are left
        out. The log says how many messages."""
        tools = [spec.tool.to_json() for spec in self.tools]
        variables = self.template_variables or None
        excerpt = ContextWindow.create(model, tools, self.sampling.max_new_tokens, variables).fit(self.messages)
        if excerpt.dropped:
            LOG.info("%d messages of a request do not fit the context: the model does not read them", excerpt.dropped)
        return replace(self, messages=excerpt.messages)

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


def check_tool_count(tools: Sequence[Any] | None, limits: Limits) -> None:
    """Raise ApiError for more tools than are allowed."""
    if tools and len(tools) > limits.tools:
        raise ApiError(400, f"there are more than {limits.tools:,} tools", param="tools", code="too_many")
