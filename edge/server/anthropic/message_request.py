"""The requests of POST /v1/messages and /v1/messages/count_tokens."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from runtime.grammar.grammar import JsonObject, JsonSchema
from runtime.model import Model
from runtime.reply.tool_choice import Mode, ToolChoice
from runtime.sampling import Sampling
from runtime.tools import Tool

from ..errors import ApiError
from ..generation.fields import LIST_LIMIT, RequestModel, SamplingFields, StopText, TokenCount, merge_sampling
from ..generation.params import GenerationParams, ToolSpec, check_tool_count
from ..generation.reply_format import ReplyFormat
from ..limits import Limits
from .message_content import MessageParam, SystemPrompt, to_messages

_MODES: dict[str, Mode] = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}
_UNSUPPORTED = (
    ("mcp_servers", "the server connects to no MCP servers for a client; offer their tools in tools"),
    ("container", "the server runs no code"),
)


class ToolDefinition(RequestModel):
    """A tool that the client runs. With `strict`, the input of every call follows the schema; without, it is any JSON
    object. Tools of Anthropic's own types, such as web_search_20250305, are rejected."""

    type: str | None = None
    name: Annotated[str, Field(pattern=r"^[\w.-]{1,128}$")]
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoiceParam(RequestModel):
    """Whether the reply calls tools: if the model wants to (auto), at least one (any), the one called `name` (tool), or
    never (none)."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(RequestModel):
    """Whether the reply has thinking blocks: not if it is `disabled`, which is the default. Templates that know it read
    it as `enable_thinking`. `budget_tokens` is ignored: `max_tokens` limits reasoning and answer together."""

    type: Literal["enabled", "adaptive", "between_tools", "disabled"]
    budget_tokens: TokenCount | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(RequestModel):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfig(RequestModel):
    """The format of the answer. `effort` is ignored."""

    format: OutputFormat | None = None


class CountTokensRequest(RequestModel):
    """A request for the number of tokens in a prompt."""

    model: str | None = None
    messages: Annotated[list[MessageParam], Field(min_length=1), LIST_LIMIT]
    system: SystemPrompt | None = None
    tools: Annotated[list[ToolDefinition], LIST_LIMIT] | None = None
    tool_choice: ToolChoiceParam | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    mcp_servers: list[Any] | None = None
    container: Any = None

    @property
    def format(self) -> ReplyFormat | None:
        """The format of the answer; None for plain text. `output_format` is the beta's name of it."""
        if self.output_config and self.output_config.format:
            return _reply_format("output_config.format.schema", self.output_config.format)
        return _reply_format("output_format.schema", self.output_format) if self.output_format else None

    @property
    def shows_thinking(self) -> bool:
        """Whether the reply has thinking blocks."""
        return self.thinking is not None and self.thinking.type != "disabled"


class MessagesRequest(CountTokensRequest, SamplingFields):
    """A request for a reply. `metadata`, `service_tier`, `speed`, `context_management` and `cache_control` are
    ignored."""

    max_tokens: TokenCount
    stop_sequences: Annotated[list[StopText], Field(max_length=16)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None


def _reply_format(param: str, form: OutputFormat) -> ReplyFormat:
    return ReplyFormat(param, form.json_schema, JsonSchema.from_schema)


def to_params(body: MessagesRequest, model: Model, limits: Limits) -> GenerationParams:
    """Convert a request. Raises ApiError or RequestError for what is not supported or cannot be enforced."""
    if body.messages[-1].role == "assistant":
        message = "the last message is the assistant's, and continuing it is not supported; end with one of the user"
        raise ApiError(400, message, param="messages", code="unsupported_parameter")
    sampling = merge_sampling(body, model.sampling, max_new_tokens=body.max_tokens, stop=body.stop_sequences or ())
    return to_prompt_params(body, sampling, limits)


def to_prompt_params(body: CountTokensRequest, sampling: Sampling, limits: Limits) -> GenerationParams:
    """Convert the fields that determine the prompt. Raises ApiError or RequestError."""
    for name, cause in _UNSUPPORTED:
        if getattr(body, name):
            raise ApiError(400, f"{name} is not supported: {cause}", param=name, code="unsupported_parameter")
    check_tool_count(body.tools, limits)
    wanted = body.tool_choice or ToolChoiceParam(type="auto")
    choice = _to_choice(wanted, body.tools or ())
    return GenerationParams.create(
        to_messages(body.system, body.messages, limits),
        _to_tool_specs(body.tools or (), choice, limits),
        choice,
        body.format,
        sampling,
        limits=limits,
        parallel=not wanted.disable_parallel_tool_use,
        template_variables={"enable_thinking": body.shows_thinking} if body.thinking else {},
    )


def _to_choice(wanted: ToolChoiceParam, tools: Sequence[ToolDefinition]) -> ToolChoice:
    """Convert the tool choice. Raises ApiError for one that needs a tool that is not offered."""
    name = (wanted.name or "") if wanted.type == "tool" else None
    choice = ToolChoice(_MODES[wanted.type], name)
    if choice.mode == "required" and not any(choice.requires(tool.name) for tool in tools):
        offered = ", ".join(tool.name for tool in tools) or "none"
        message = f"{wanted.type} needs a tool that is offered; those in tools are: {offered}"
        raise ApiError(400, message, param="tool_choice", code="invalid_value")
    return choice


def _to_tool_specs(tools: Sequence[ToolDefinition], choice: ToolChoice, limits: Limits) -> list[ToolSpec]:
    """Convert the tools. The input of every call is a JSON object, since the API has no other form for it."""
    specs = []
    for index, tool in enumerate(tools):
        param = f"tools[{index}]"
        if tool.type not in (None, "custom"):
            message = f"tools of the type {tool.type} are not supported; define the tool by its input_schema"
            raise ApiError(400, message, param=f"{param}.type", code="unsupported_parameter")
        if tool.input_schema is None:
            message = "the JSON schema of the tool's input is missing"
            raise ApiError(400, message, param=f"{param}.input_schema", code="missing_required_parameter")
        definition = tool.model_dump(include={"name", "description", "input_schema"}, exclude_none=True)
        spec = ToolSpec.create(
            Tool.from_json(definition),
            strict=bool(tool.strict),
            choice=choice,
            limits=limits,
            param=f"{param}.input_schema",
        )
        specs.append(replace(spec, grammar=spec.grammar or JsonObject()))
    return specs
