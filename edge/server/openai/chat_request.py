"""The request of POST /v1/chat/completions."""

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic import JsonValue as Json

from runtime.model import Model

from ..limits import Limits
from .chat_messages import ChatMessage, to_messages
from .generation import GenerationParams, ToolSpec, check_tool_count, response_grammar
from .params import (
    LIST_LIMIT,
    FunctionName,
    JsonSchemaFormat,
    RequestModel,
    SamplingFields,
    Seed,
    StopText,
    StreamOptions,
    TokenCount,
    merge_sampling,
    reject_unsupported,
    stop_texts,
)

SCHEMA_PARAM = "response_format.json_schema.schema"


class ToolFunction(RequestModel):
    """A function that the model may call. With `strict`, calls have to match the schema in `parameters`."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(RequestModel):
    """A tool of the request."""

    type: Literal["function"]
    function: ToolFunction


class NamedFunction(RequestModel):
    """The name of a function."""

    name: FunctionName


class NamedTool(RequestModel):
    """The choice of a tool that has to be called."""

    type: Literal["function"]
    function: NamedFunction


class TextFormat(RequestModel):
    """Text, or any JSON object. `schema` beside "json_object" is llama.cpp's name for a json_schema."""

    type: Literal["text", "json_object"]
    json_schema: dict[str, Any] | None = Field(None, alias="schema")


class SchemaFormat(RequestModel):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat


class ChatRequest(SamplingFields):
    """A request for replies to a chat. `max_tokens` is the older name of `max_completion_tokens`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1), LIST_LIMIT]
    tools: Annotated[list[FunctionTool], LIST_LIMIT] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Annotated[TextFormat | SchemaFormat, Field(discriminator="type")] | None = None
    stream_options: StreamOptions | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    seed: Seed | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    functions: Annotated[list[Json], LIST_LIMIT] | None = None


def to_params(body: ChatRequest, model: Model, limits: Limits) -> GenerationParams:
    """Convert a request. Raises ApiError or RequestError for what is not supported or cannot be enforced."""
    reject_unsupported(body)
    check_tool_count(body.tools, limits)
    messages = to_messages(body.messages, limits)
    wanted = body.tool_choice or "auto"
    choice = wanted if isinstance(wanted, str) else wanted.function.name
    tools = [
        to_tool_spec(tool.function, choice, limits, f"tools[{index}].function.parameters")
        for index, tool in enumerate(body.tools or ())
    ]
    match body.response_format:
        case SchemaFormat(json_schema=form):
            answer = response_grammar("json_schema", form.json_schema, limits, SCHEMA_PARAM)
        case form:
            schema = form.json_schema if form else None
            answer = response_grammar(form.type if form else "text", schema, limits, "response_format.schema")
    sampling = merge_sampling(
        body,
        model.sampling,
        max_new_tokens=body.max_completion_tokens or body.max_tokens,
        stop=stop_texts(body.stop),
        seed=body.seed,
        logprobs=bool(body.logprobs),
    )
    parallel = body.parallel_tool_calls is not False
    return GenerationParams.create(
        messages, tools, choice, answer, sampling, parallel=parallel, format_param=SCHEMA_PARAM
    )


def to_tool_spec(tool: ToolFunction, choice: str, limits: Limits, param: str) -> ToolSpec:
    """Convert a function. Raises ApiError for a schema that is too large or cannot be enforced."""
    return ToolSpec.create(
        tool.name, tool.description, tool.parameters, tool.strict, choice=choice, limits=limits, param=param
    )
