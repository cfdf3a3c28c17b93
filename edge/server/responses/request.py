"""The requests of POST /v1/responses and of the endpoints that read the same context."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from runtime.model import Model
from runtime.text import quoted

from ..errors import ApiError
from ..generation.fields import LIST_LIMIT, RequestModel, TokenCount, merge_sampling
from ..generation.params import GenerationParams, check_tool_count
from ..generation.reply_format import FlatFormat, FormatFields, ReplyFormat, own_format
from ..limits import Limits
from ..openai.chat_request import to_tool_spec
from ..openai.params import reject_unsupported
from .items import to_messages
from .store.record import Item
from .tools import ResponseChoice, ResponseTool, ToolSelection, select_tools

LOGPROBS = "message.output_text.logprobs"
# What else OpenAI's `include` may name: outputs of tools that are not offered here, and reasoning for later requests,
# which no template of GLM-4 reads.
_INCLUDED = (
    LOGPROBS,
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
)
_UNSUPPORTED = {
    "background": "a response is generated while its request waits, or streamed",
    "prompt": "prompts are not stored here; send their text as instructions",
    "context_management": "send truncation: auto, or call /v1/responses/compact",
    "moderation": "there is no moderation model",
}

MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]


class TextSettings(RequestModel):
    """The format of the answer."""

    format: FlatFormat | None = None


class ContextFields(RequestModel):
    """The conversation of a request: `input` after what `previous_response_id` or `conversation` names."""

    input: str | Annotated[list[dict[str, Any]], LIST_LIMIT] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None


class ResponsesRequest(FormatFields, ContextFields):
    """A request for a response to `input`, whose items are messages, calls, their outputs, reasoning, and references to
    stored items. `include` may name `message.output_text.logprobs`."""

    tools: Annotated[list[ResponseTool], LIST_LIMIT] | None = None
    tool_choice: ResponseChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextSettings | None = None
    include: Annotated[list[str], LIST_LIMIT] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_output_tokens: TokenCount | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    user: str | None = None
    truncation: Literal["auto", "disabled"] | None = None
    reasoning: dict[str, Any] | None = None
    background: bool | None = None
    prompt: str | dict[str, Any] | None = None
    context_management: Annotated[list[dict[str, Any]], LIST_LIMIT] | None = None
    moderation: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _reject_by_name(self) -> Self:
        for name, cause in _UNSUPPORTED.items():
            if getattr(self, name):
                raise ApiError(400, f"{name} is not supported: {cause}", param=name, code="unsupported_parameter")
        reject_unsupported(self)
        for name in self.include or ():
            if name not in _INCLUDED:
                raise ApiError(400, f"include: {quoted(name)} is unknown", param="include", code="invalid_value")
        return self

    @property
    def format(self) -> ReplyFormat | None:
        """The format of the reply; None for plain text. Raises ApiError for two formats, or an unsupported one."""
        return self.reply_format(own_format(self.text.format if self.text else None, "text.format"))

    def selection(self) -> ToolSelection:
        """Return the tools that are offered to the model. Raises ApiError if the choice demands another."""
        return select_tools(self.tools or (), self.tool_choice)


def to_params(
    body: ResponsesRequest, items: Sequence[Item], selection: ToolSelection, model: Model, limits: Limits
) -> GenerationParams:
    """Convert a request with the items of its context. Raises ApiError or RequestError for what is not supported or
    cannot be enforced."""
    check_tool_count(body.tools, limits)
    choice = selection.choice
    tools = [to_tool_spec(tool, choice, limits, f"tools[{index}].parameters") for index, tool in selection.offered]
    logprobs = LOGPROBS in (body.include or ())
    sampling = merge_sampling(body, model.sampling, max_new_tokens=body.max_output_tokens, logprobs=logprobs)
    variables: Mapping[str, Any] = body.chat_template_kwargs or {}
    messages = to_messages(body.instructions, items, limits)
    params = GenerationParams.create(
        messages,
        tools,
        choice,
        body.format,
        sampling,
        limits=limits,
        parallel=body.parallel_tool_calls is not False,
        template_variables=variables,
    )
    return params.fit(model) if body.truncation == "auto" else params
