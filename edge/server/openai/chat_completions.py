"""POST /v1/chat/completions, as OpenAI's clients know it, with `reasoning_content` beside the content."""

import math
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import cache
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import Field
from pydantic import JsonValue as Json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.cancellation import Cancellation
from runtime.chat import Reply
from runtime.errors import RequestError, UnsupportedGrammar
from runtime.messages import (
    Event,
    Finish,
    Logprobs,
    Message,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from runtime.model import Model

from ..errors import ApiError
from ..limits import Limits
from ..pool.dispatcher import Dispatcher, read_body, sse, stream
from ..pool.workers import Indexed
from .params import (
    LIST_LIMIT,
    FunctionName,
    GenerationParams,
    JsonSchemaFormat,
    RequestModel,
    SamplingFields,
    Seed,
    StopText,
    TokenCount,
    ToolSpec,
    merge_sampling,
    response_grammar,
)
from .schema_limits import check_enforceable, check_size


class TextPart(RequestModel):
    type: Literal["text"]
    text: str


class CalledFunction(RequestModel):
    name: str
    arguments: str = "{}"


class AssistantCall(RequestModel):
    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(RequestModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], LIST_LIMIT] | None = None
    reasoning_content: str | None = None
    tool_calls: Annotated[list[AssistantCall], LIST_LIMIT] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class ToolFunction(RequestModel):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(RequestModel):
    type: Literal["function"]
    function: ToolFunction


class NamedFunction(RequestModel):
    name: FunctionName


class NamedTool(RequestModel):
    type: Literal["function"]
    function: NamedFunction


class TextFormat(RequestModel):
    """`schema` beside "json_object" is the name that llama.cpp and others have for a json_schema."""

    type: Literal["text", "json_object"]
    json_schema: dict[str, Any] | None = Field(None, alias="schema")


class SchemaFormat(RequestModel):
    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat


class StreamOptions(RequestModel):
    include_usage: bool | None = None


class ChatRequest(SamplingFields):
    """`max_tokens` is the older name of `max_completion_tokens`."""

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


class CallReply(RequestModel):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class TokenReply(RequestModel):
    """`bytes` are those of `token`, which is U+FFFD where a token holds a part of a character."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: tuple[()] = ()

    @classmethod
    def of(cls, tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
        return [cls(token=t.text, logprob=finite(t.logprob), bytes=list(t.bytes)).model_dump() for t in tokens]


def finite(logprob: float) -> float:
    """JSON has no infinity: OpenAI writes -9999.0 for a token that has no probability."""
    return logprob if math.isfinite(logprob) else -9999.0


class LogprobsReply(RequestModel):
    content: list[TokenReply]
    refusal: None = None


class MessageReply(RequestModel):
    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | None = None
    tool_calls: list[CallReply] | None = None


SCHEMA_PARAM = "response_format.json_schema.schema"
ChatFinishReason = Literal["stop", "length", "tool_calls"]


class ChatChoice(RequestModel):
    index: int
    message: MessageReply
    logprobs: LogprobsReply | None = None
    finish_reason: ChatFinishReason


class UsageReply(RequestModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, usages: Sequence[Usage]) -> "UsageReply":
        """Several replies have one prompt."""
        prompt = max((usage.prompt_tokens for usage in usages), default=0)
        written = sum(usage.completion_tokens for usage in usages)
        return cls(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)


class ChatCompletion(RequestModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageReply


def reject_unsupported(fields: Any) -> None:
    """Raises ApiError for what would change the reply and is not held here."""
    for name, cure in (
        ("top_logprobs", "the engine tells that of the chosen token alone: send logprobs without it"),
        ("logit_bias", "it is not held"),
        ("functions", "send them as tools"),
        ("suffix", "text goes on at its end alone"),
    ):
        if getattr(fields, name, None):
            raise ApiError(400, f"{name}: {cure}", param=name, code="unsupported_parameter")


def reply_of(model: Model, asked: GenerationParams, cancellation: Cancellation) -> Generator[Event, None, None]:
    tools = [tool.to_json() for tool in asked.tools]
    try:
        yield from model.reply(asked.messages, tools, asked.sampling, asked.constraint, cancellation)
    except UnsupportedGrammar as exc:
        raise asked.to_api_error(exc) from exc


def to_tool_spec(tool: ToolFunction, choice: str, limits: Limits, param: str) -> ToolSpec:
    """Raises ApiError where the tool's schema is too large, or a call has to be held to it and cannot be."""
    schema = tool.parameters or {"type": "object", "properties": {}}
    strict = bool(tool.strict)
    (check_enforceable if strict or choice in ("required", tool.name) else check_size)(schema, limits, param)
    return ToolSpec(tool.name, tool.description or "", schema, strict, param)


def to_messages(said: Sequence[ChatMessage], limits: Limits) -> list[Message]:
    """Raises ApiError for too many, or one that the model cannot read."""
    if len(said) > limits.messages:
        raise ApiError(400, f"there are more than {limits.messages:,} messages", param="messages", code="too_many")
    messages = []
    for index, message in enumerate(said):
        try:
            messages.append(Message.from_json(message.model_dump(exclude_none=True)))
        except RequestError as exc:
            raise ApiError(400, f"{exc}; {exc.hint}", param=f"messages[{index}]", code="invalid_value") from exc
    return messages


def to_params(body: ChatRequest, model: Model, limits: Limits) -> GenerationParams:
    """Raises ApiError or RequestError for what cannot be held."""
    reject_unsupported(body)
    if body.tools and len(body.tools) > limits.tools:
        raise ApiError(400, f"there are more than {limits.tools:,} tools", param="tools", code="too_many")
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
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    limit = body.max_completion_tokens or body.max_tokens
    sampling = merge_sampling(body, model.sampling, limit, stop, body.seed, logprobs=bool(body.logprobs))
    try:
        parallel = body.parallel_tool_calls is not False
        return GenerationParams.create(
            messages, tools, choice, answer, sampling, parallel=parallel, answer_param=SCHEMA_PARAM
        )
    except RequestError as exc:
        raise ApiError(400, f"{exc}; {exc.hint}", param="tool_choice", code="invalid_value") from exc


async def create_chat_completion(dispatcher: Dispatcher, request: Request) -> Response:
    body = await read_body(request, ChatRequest)
    entry = dispatcher.pool.find(body.model)
    count = body.n or 1
    if count > dispatcher.limits.replies_per_request:
        raise ApiError(
            400, f"n may be at most {dispatcher.limits.replies_per_request}", param="n", code="invalid_value"
        )

    @cache
    def wanted(model: Model) -> GenerationParams:
        return to_params(body, model, dispatcher.limits)

    def check(model: Model, cancellation: Cancellation) -> None:
        wanted(model).admit(model, cancellation)

    def write(model: Model, index: int, cancellation: Cancellation) -> Generator[Event, None, None]:
        with closing(reply_of(model, wanted(model).with_seed_offset(index), cancellation)) as events:
            yield from events

    served = await dispatcher.start(
        request, body.model, count, write, check if body.tools or body.response_format else None
    )
    made: dict[str, Any] = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": entry.name}
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        chunks = ChunkStream(made, count, include_usage)
        return stream(served, chunks.write, chunks.opening(), chunks.ending)
    replies = await served.collect(request)
    usage = UsageReply.of([event.usage for reply in replies for event in reply if isinstance(event, Finish)])
    whole = ChatCompletion(
        **made, choices=[to_choice(i, reply, bool(body.logprobs)) for i, reply in enumerate(replies)], usage=usage
    )
    out = whole.model_dump(mode="json")
    for choice in out["choices"]:  # some clients take a null for a list
        choice["message"] = {k: v for k, v in choice["message"].items() if v is not None or k in ("content", "refusal")}
    return JSONResponse(out)


def to_choice(index: int, events: Sequence[Event], logged: bool) -> ChatChoice:
    said = Reply.of(events)
    calls = [CallReply(id=c.id, function=CalledFunction(name=c.name, arguments=c.arguments)) for c in said.tool_calls]
    message = MessageReply(
        content=said.text if said.text or not calls else None,
        reasoning_content=said.reasoning or None,
        tool_calls=calls or None,
    )
    logprobs = LogprobsReply.model_validate({"content": TokenReply.of(said.logprobs)}) if logged else None
    reason = finish_reason(said.finish_reason, bool(calls))
    return ChatChoice(index=index, message=message, logprobs=logprobs, finish_reason=reason)


def finish_reason(reason: str, called: bool) -> ChatFinishReason:
    return "length" if reason == "length" else "tool_calls" if called else "stop"


class ChunkStream:
    """The events of `count` replies as chat.completion.chunk objects."""

    def __init__(self, made: dict[str, Any], count: int, include_usage: bool) -> None:
        self._made = made | {"object": "chat.completion.chunk"}
        self._count = count
        self._include_usage = include_usage
        self._usages: list[Usage] = []
        self._logprobs: dict[int, Sequence[TokenLogprob]] = {}  # of the text that comes next
        self._calls: list[list[str]] = [[] for _ in range(count)]  # the ids of each reply's calls, in their order

    def opening(self) -> str:
        return "".join(self._chunk(index, {"role": "assistant", "content": ""}) for index in range(self._count))

    def write(self, batch: list[Indexed]) -> str:
        return "".join(self._event(index, event) for index, event in batch)

    def ending(self) -> str:
        usage = ""
        if self._include_usage:
            usage = sse(self._made | {"choices": [], "usage": UsageReply.of(self._usages).model_dump()})
        return f"{usage}data: [DONE]\n\n"

    def _event(self, index: int, event: Event) -> str:
        calls = self._calls[index]
        match event:
            case Logprobs(tokens):
                self._logprobs[index] = tokens
            case Text(text):
                return self._chunk(index, {"content": text}, tokens=self._logprobs.pop(index, None))
            case Reasoning(text):
                return self._chunk(index, {"reasoning_content": text})
            case ToolCallDelta(id, name, arguments) | ToolCall(name, arguments, id) if id not in calls:
                calls.append(id)
                function = {"name": name, "arguments": arguments}
                call = {"index": len(calls) - 1, "id": id, "type": "function", "function": function}
                return self._chunk(index, {"tool_calls": [call]})
            case ToolCallDelta(id, _, arguments):
                piece = {"index": calls.index(id), "function": {"arguments": arguments}}
                return self._chunk(index, {"tool_calls": [piece]})
            case Finish(reason, usage):
                self._usages.append(usage)
                return self._chunk(index, {}, finish_reason(reason, bool(calls)))
        return ""

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        reason: str | None = None,
        tokens: Sequence[TokenLogprob] | None = None,
    ) -> str:
        logprobs = None if tokens is None else {"content": TokenReply.of(tokens), "refusal": None}
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return sse(self._made | {"choices": [choice]} | ({"usage": None} if self._include_usage else {}))
