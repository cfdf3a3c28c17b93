"""The request of POST /v1/responses."""

from typing import Annotated, Any, Literal

from pydantic import Field

from runtime.errors import RequestError
from runtime.messages import Message
from runtime.model import Model
from runtime.reply.tool_choice import Mode, ToolChoice

from ..errors import ApiError
from ..generation.fields import LIST_LIMIT, FunctionName, RequestModel, TokenCount, merge_sampling
from ..generation.params import GenerationParams, check_tool_count
from ..generation.reply_format import FlatFormat, FormatFields, ReplyFormat, own_format
from ..limits import Limits
from .chat_request import ToolFunction, to_tool_spec
from .params import reject_unsupported

Item = dict[str, Any]
LOGPROBS = "message.output_text.logprobs"


class FlatTool(ToolFunction):
    """A tool of the request."""

    type: Literal["function"]


class FlatChoice(RequestModel):
    """The choice of a tool that has to be called."""

    type: Literal["function"]
    name: FunctionName


class TextSettings(RequestModel):
    """The format of the answer."""

    format: FlatFormat | None = None


class ResponsesRequest(FormatFields):
    """A request for a reply to `input`, whose items are messages, function_call, function_call_output and reasoning.
    `include` may name `message.output_text.logprobs`."""

    input: str | Annotated[list[dict[str, Any]], Field(min_length=1), LIST_LIMIT]
    instructions: str | None = None
    tools: Annotated[list[FlatTool], LIST_LIMIT] | None = None
    tool_choice: Mode | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextSettings | None = None
    include: Annotated[list[str], LIST_LIMIT] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_output_tokens: TokenCount | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @property
    def format(self) -> ReplyFormat | None:
        """The format of the reply; None for plain text. Raises ApiError for two formats, or an unsupported one."""
        return self.reply_format(own_format(self.text.format if self.text else None, "text.format"))


def to_params(body: ResponsesRequest, model: Model, limits: Limits) -> GenerationParams:
    """Convert a request. Raises ApiError or RequestError for what is not supported or cannot be enforced."""
    for name in ("previous_response_id", "conversation", "background"):
        if getattr(body, name):
            cause = "is not supported: nothing is kept on the server; send the whole conversation as input"
            raise ApiError(400, f"{name} {cause}", param=name, code="unsupported_parameter")
    reject_unsupported(body)
    check_tool_count(body.tools, limits)
    wanted = body.tool_choice or "auto"
    choice = ToolChoice("required", wanted.name) if isinstance(wanted, FlatChoice) else ToolChoice(wanted)
    tools = [to_tool_spec(tool, choice, limits, f"tools[{i}].parameters") for i, tool in enumerate(body.tools or ())]
    logprobs = LOGPROBS in (body.include or ())
    sampling = merge_sampling(body, model.sampling, max_new_tokens=body.max_output_tokens, logprobs=logprobs)
    parallel = body.parallel_tool_calls is not False
    messages = to_messages(body, limits)
    return GenerationParams.create(
        messages,
        tools,
        choice,
        body.format,
        sampling,
        limits=limits,
        parallel=parallel,
        template_variables=body.chat_template_kwargs,
    )


def to_messages(body: ResponsesRequest, limits: Limits) -> list[Message]:
    """Convert the instructions and the input's items. Raises ApiError for an item that the model cannot read."""
    messages: list[Item] = [{"role": "system", "content": body.instructions}] if body.instructions else []
    items = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    if len(items) > limits.messages:
        raise ApiError(400, f"there are more than {limits.messages:,} items", param="input", code="too_many")
    names: dict[str, str] = {}  # of the tools, by the calls' ids
    for index, item in enumerate(items):
        kind = item.get("type", "message")
        last = messages[-1] if messages and messages[-1]["role"] == "assistant" else None
        if kind == "message":
            messages.append({"role": item.get("role"), "content": _text_parts(item.get("content"))})
        elif kind == "function_call":
            names[str(item.get("call_id"))] = str(item.get("name"))
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            if last is None:  # calls of one reply are one message
                last = {"role": "assistant", "content": "", "tool_calls": []}
                messages.append(last)
            last.setdefault("tool_calls", []).append({"id": item.get("call_id"), "function": function})
        elif kind == "function_call_output":
            call = str(item.get("call_id"))
            content = _text_parts(item.get("output"))
            messages.append({"role": "tool", "tool_call_id": call, "name": names.get(call, ""), "content": content})
        elif kind != "reasoning":  # GLM-4's template leaves out earlier reasoning
            message = f"items of the type {kind!r} are not supported"
            raise ApiError(400, message, param=f"input[{index}]", code="invalid_value")
    try:
        return [Message.from_json(message) for message in messages]
    except RequestError as exc:
        raise ApiError(400, f"{exc}; {exc.hint}", param="input", code="invalid_value") from exc


def _text_parts(content: Any) -> Any:
    """Rename input_text and output_text parts to text parts."""
    if not isinstance(content, list):
        return content
    texts = ("input_text", "output_text")
    return [
        part | {"type": "text"} if isinstance(part, dict) and part.get("type") in texts else part for part in content
    ]
