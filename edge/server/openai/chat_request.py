"""The request of POST /v1/chat/completions."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, model_validator
from pydantic import JsonValue as Json

from runtime.model import Model
from runtime.reply.tool_choice import Mode, ToolChoice
from runtime.tools import Tool

from ..generation.fields import (
    LIST_LIMIT,
    FunctionName,
    RequestModel,
    Seed,
    StopText,
    TokenCount,
    merge_sampling,
    stop_texts,
)
from ..generation.params import GenerationParams, ToolSpec, check_tool_count
from ..generation.reply_format import ChatFormat, FormatFields, ReplyFormat, own_format
from ..limits import Limits
from .chat_messages import ChatMessage, to_messages
from .params import StreamOptions, reject_unsupported


class ToolFunction(RequestModel):
    """A function that the model may call. With `strict`, calls have to match the schema in `parameters`. The chat
    template is given all fields as they are, those that are not known here too."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    _definition: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_definition(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        found = validate(data)
        if isinstance(data, Mapping):
            found._definition = dict(data)
        return found

    @property
    def definition(self) -> Mapping[str, Any]:
        """The function as the client sent it."""
        return {"type": "function", "function": self._definition}


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


class ChatRequest(FormatFields):
    """A request for replies to a chat. `max_tokens` is the older name of `max_completion_tokens`. As in vLLM, the chat
    template reads `documents` and `chat_template_kwargs` as variables. `truncation` is that of OpenAI's Responses API:
    with "auto", the oldest turns of a chat that is longer than the context are left out."""

    messages: Annotated[list[ChatMessage], Field(min_length=1), LIST_LIMIT]
    tools: Annotated[list[FunctionTool], LIST_LIMIT] | None = None
    tool_choice: Mode | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ChatFormat | None = None
    stream_options: StreamOptions | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    seed: Seed | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    functions: Annotated[list[Json], LIST_LIMIT] | None = None
    documents: Annotated[list[dict[str, Any]], LIST_LIMIT] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    truncation: Literal["auto", "disabled"] | None = None

    @property
    def format(self) -> ReplyFormat | None:
        """The format of the reply; None for plain text. Raises ApiError for two formats, or an unsupported one."""
        return self.reply_format(own_format(self.response_format, "response_format"))


def to_params(body: ChatRequest, model: Model, limits: Limits) -> GenerationParams:
    """Convert a request. Raises ApiError or RequestError for what is not supported or cannot be enforced."""
    reject_unsupported(body)
    check_tool_count(body.tools, limits)
    messages = to_messages(body.messages, limits)
    wanted = body.tool_choice or "auto"
    choice = ToolChoice("required", wanted.function.name) if isinstance(wanted, NamedTool) else ToolChoice(wanted)
    tools = [
        to_tool_spec(tool.function, choice, limits, f"tools[{index}].function.parameters")
        for index, tool in enumerate(body.tools or ())
    ]
    sampling = merge_sampling(
        body,
        model.sampling,
        max_new_tokens=body.max_completion_tokens or body.max_tokens,
        stop=stop_texts(body.stop),
        seed=body.seed,
        logprobs=bool(body.logprobs),
    )
    parallel = body.parallel_tool_calls is not False
    variables = {"documents": body.documents} if body.documents else {}
    params = GenerationParams.create(
        messages,
        tools,
        choice,
        body.format,
        sampling,
        limits=limits,
        parallel=parallel,
        template_variables=variables | (body.chat_template_kwargs or {}),
    )
    return params.fit(model) if body.truncation == "auto" else params


def to_tool_spec(tool: ToolFunction, choice: ToolChoice, limits: Limits, param: str) -> ToolSpec:
    """Convert a function. Raises ApiError for a schema that is too large, or that has to be enforced and is invalid."""
    return ToolSpec.create(
        Tool.from_json(tool.definition),
        strict=bool(tool.strict),
        choice=choice,
        limits=limits,
        param=param,
    )
