"""POST /v1/responses: OpenAI's later chat API. Nothing is stored, so a conversation comes whole with every request."""

import time
from collections.abc import Generator
from contextlib import closing
from functools import cache
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.cancellation import Cancellation
from runtime.errors import RequestError
from runtime.messages import Event, Finish, Logprobs, Message, Reasoning, Text, ToolCall, ToolCallDelta, Usage
from runtime.model import Model

from ..errors import ApiError
from ..limits import Limits
from ..pool.dispatcher import Dispatcher, read_body, sse, stream
from ..pool.workers import Indexed
from .chat_completions import TokenReply, ToolFunction, reject_unsupported, reply_of, to_tool_spec
from .params import (
    LIST_LIMIT,
    FunctionName,
    GenerationParams,
    JsonSchemaFormat,
    RequestModel,
    SamplingFields,
    TokenCount,
    merge_sampling,
    response_grammar,
)

Item = dict[str, Any]
SCHEMA_PARAM = "text.format.schema"
LOGPROBS = "message.output_text.logprobs"


class FlatTool(ToolFunction):
    type: Literal["function"]


class FlatChoice(RequestModel):
    type: Literal["function"]
    name: FunctionName


class FlatText(RequestModel):
    type: Literal["text", "json_object"]
    json_schema: dict[str, Any] | None = Field(None, alias="schema")


class FlatSchema(JsonSchemaFormat):
    type: Literal["json_schema"]


class TextSettings(RequestModel):
    format: Annotated[FlatText | FlatSchema, Field(discriminator="type")] | None = None


class ResponsesRequest(SamplingFields):
    """The items of `input` are messages, function_call, function_call_output and reasoning. Of what may be included,
    `message.output_text.logprobs` alone is known."""

    input: str | Annotated[list[dict[str, Any]], Field(min_length=1), LIST_LIMIT]
    instructions: str | None = None
    tools: Annotated[list[FlatTool], LIST_LIMIT] | None = None
    tool_choice: Literal["auto", "none", "required"] | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextSettings | None = None
    include: Annotated[list[str], LIST_LIMIT] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_output_tokens: TokenCount | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None


class ResponsesReply(BaseModel):
    """`output` holds items of the types reasoning, message and function_call."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    model: str
    status: Literal["completed", "incomplete"]
    error: None = None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    metadata: dict[str, str]
    output: list[dict[str, Any]]
    parallel_tool_calls: bool
    temperature: float
    top_p: float
    tool_choice: Any
    tools: list[dict[str, Any]]
    usage: dict[str, Any] | None


def to_messages(body: ResponsesRequest, limits: Limits) -> list[Message]:
    """Raises ApiError for an item that the model cannot read."""
    said: list[Item] = [{"role": "system", "content": body.instructions}] if body.instructions else []
    items = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    if len(items) > limits.messages:
        raise ApiError(400, f"there are more than {limits.messages:,} items", param="input", code="too_many")
    names: dict[str, str] = {}
    for index, item in enumerate(items):
        kind = item.get("type", "message")
        last = said[-1] if said and said[-1]["role"] == "assistant" else None
        if kind == "message":
            said.append({"role": item.get("role"), "content": _parts(item.get("content"))})
        elif kind == "function_call":
            names[str(item.get("call_id"))] = str(item.get("name"))
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            if last is None:  # calls of one reply are one message
                last = {"role": "assistant", "content": "", "tool_calls": []}
                said.append(last)
            last.setdefault("tool_calls", []).append({"id": item.get("call_id"), "function": function})
        elif kind == "function_call_output":
            call = str(item.get("call_id"))
            content = _parts(item.get("output"))
            said.append({"role": "tool", "tool_call_id": call, "name": names.get(call, ""), "content": content})
        elif kind != "reasoning":  # a model of GLM-4 does not see what it thought before
            raise ApiError(
                400, f"items of the type {kind!r} cannot be read", param=f"input[{index}]", code="invalid_value"
            )
    try:
        return [Message.from_json(message) for message in said]
    except RequestError as exc:
        raise ApiError(400, f"{exc}; {exc.hint}", param="input", code="invalid_value") from exc


def _parts(content: Any) -> Any:
    """input_text and output_text are text parts by other names."""
    if not isinstance(content, list):
        return content
    texts = ("input_text", "output_text")
    return [
        part | {"type": "text"} if isinstance(part, dict) and part.get("type") in texts else part for part in content
    ]


def to_params(body: ResponsesRequest, model: Model, limits: Limits) -> GenerationParams:
    for name in ("previous_response_id", "conversation", "background"):
        if getattr(body, name):
            raise ApiError(400, f"{name}: nothing is kept here", param=name, code="unsupported_parameter")
    reject_unsupported(body)
    if body.tools and len(body.tools) > limits.tools:
        raise ApiError(400, f"there are more than {limits.tools:,} tools", param="tools", code="too_many")
    wanted = body.tool_choice or "auto"
    choice = wanted if isinstance(wanted, str) else wanted.name
    tools = [to_tool_spec(tool, choice, limits, f"tools[{i}].parameters") for i, tool in enumerate(body.tools or ())]
    match body.text.format if body.text else None:
        case FlatSchema(json_schema=schema):
            answer = response_grammar("json_schema", schema, limits, SCHEMA_PARAM)
        case form:
            schema = form.json_schema if form else None
            answer = response_grammar(form.type if form else "text", schema, limits, SCHEMA_PARAM)
    logged = LOGPROBS in (body.include or ())
    sampling = merge_sampling(body, model.sampling, body.max_output_tokens, (), None, logprobs=logged)
    parallel = body.parallel_tool_calls is not False
    try:
        messages = to_messages(body, limits)
        return GenerationParams.create(
            messages, tools, choice, answer, sampling, parallel=parallel, answer_param=SCHEMA_PARAM
        )
    except RequestError as exc:
        raise ApiError(400, f"{exc}; {exc.hint}", param="tool_choice", code="invalid_value") from exc


async def create_response(dispatcher: Dispatcher, request: Request) -> Response:
    body = await read_body(request, ResponsesRequest)
    entry = dispatcher.pool.find(body.model)

    @cache
    def wanted(model: Model) -> GenerationParams:
        return to_params(body, model, dispatcher.limits)

    def check(model: Model, cancellation: Cancellation) -> None:
        wanted(model).admit(model, cancellation)

    def write(model: Model, index: int, cancellation: Cancellation) -> Generator[Event, None, None]:
        with closing(reply_of(model, wanted(model), cancellation)) as events:
            yield from events

    served = await dispatcher.start(request, body.model, 1, write, check if body.tools or body.text else None)
    told = ResponseStream(body, entry.name, served.lease.model)
    if body.stream:
        return stream(served, told.write, told.opening(), lambda: "", told.failed)
    (events,) = await served.collect(request)
    for event in events:
        told.event(event)
    return JSONResponse(ResponsesReply(**told.response()).model_dump(mode="json"))


class ResponseStream:
    """The response as it grows: every event of the reply becomes events of OpenAI's stream."""

    def __init__(self, body: ResponsesRequest, name: str, model: Model) -> None:
        sampling = model.sampling
        choice = body.tool_choice or "auto"
        self._whole: Item = {
            "id": f"resp_{uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": name,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "metadata": {},
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "temperature": sampling.temperature if body.temperature is None else body.temperature,
            "top_p": sampling.top_p if body.top_p is None else body.top_p,
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "tools": [tool.model_dump() for tool in body.tools or ()],
            "usage": None,
        }
        self._number = 0
        self._logprobs: list[Item] = []  # of the text that comes next
        self._open: Item | None = None  # the item that is being written
        self._pieces: list[str] = []  # its text, until it is closed

    def response(self) -> Item:
        return self._whole

    def opening(self) -> str:
        return self._send("response.created", response=self._whole) + self._send(
            "response.in_progress", response=self._whole
        )

    def write(self, batch: list[Indexed]) -> str:
        return "".join(self.event(event) for _, event in batch)

    def failed(self, error: ApiError) -> str:
        self._join()
        detail = {"code": "server_error", "message": str(error)}
        return self._send("response.failed", response=self._whole | {"status": "failed", "error": detail})

    def event(self, event: Event) -> str:
        """What the event adds to the stream."""
        match event:
            case Logprobs(tokens):
                self._logprobs = TokenReply.of(tokens)
            case Text(text):
                return self._piece("message", text)
            case Reasoning(text):
                return self._piece("reasoning", text)
            case ToolCallDelta(id, name, arguments):
                out = self._call(id, name)
                self._pieces.append(arguments)
                place = self._place()
                return out + self._send("response.function_call_arguments.delta", delta=arguments, **place)
            case ToolCall(_, _, id, complete):
                return self._close(complete=complete)
            case Finish(reason, usage):
                return self._finish(reason, usage)
        return ""

    def _piece(self, kind: str, text: str) -> str:
        out, part = "", "output_text" if kind == "message" else "reasoning_text"
        if self._open is None or self._open["type"] != kind:
            item: Item = {"type": kind, "id": f"{'msg' if kind == 'message' else 'rs'}_{uuid4().hex}"}
            item |= {"status": "in_progress", "content": []}
            own: Item = {"role": "assistant"} if kind == "message" else {"summary": []}
            item |= own
            out = self._begin(item)
            new: Item = {"type": part, "text": ""}
            new |= {"annotations": [], "logprobs": []} if kind == "message" else {}
            out += self._send("response.content_part.added", part=new, content_index=0, **self._place())
            item["content"].append(new)
        assert self._open is not None
        self._pieces.append(text)
        more: Item = {}
        if kind == "message":
            more, self._logprobs = {"logprobs": self._logprobs}, []
            self._open["content"][0]["logprobs"] += more["logprobs"]
        return out + self._send(f"response.{part}.delta", delta=text, content_index=0, **more, **self._place())

    def _call(self, id: str, name: str) -> str:
        if self._open is not None and self._open.get("call_id") == id:
            return ""
        item = {"type": "function_call", "id": f"fc_{uuid4().hex}", "call_id": id, "name": name, "arguments": ""}
        return self._begin(item | {"status": "in_progress"})

    def _begin(self, item: Item) -> str:
        out = self._close()
        self._open, self._pieces = item, []
        self._whole["output"].append(item)
        return out + self._send("response.output_item.added", item=item, output_index=len(self._whole["output"]) - 1)

    def _join(self) -> None:
        """Puts what was written so far into the item."""
        if self._open is not None and self._open["type"] == "function_call":
            self._open["arguments"] = "".join(self._pieces)
        elif self._open is not None and self._open["content"]:
            self._open["content"][0]["text"] = "".join(self._pieces)

    def _close(self, *, complete: bool = True) -> str:
        if (item := self._open) is None:
            return ""
        self._join()
        out, place = "", self._place()
        item["status"] = "completed" if complete else "incomplete"
        if item["type"] == "function_call":
            done = {"arguments": item["arguments"], "name": item["name"]}
            out += self._send("response.function_call_arguments.done", **done, **place)
        else:
            (part,) = item["content"]
            more: Item = {"logprobs": part["logprobs"]} if part["type"] == "output_text" else {}
            out += self._send(f"response.{part['type']}.done", text=part["text"], content_index=0, **more, **place)
            out += self._send("response.content_part.done", part=part, content_index=0, **place)
        out += self._send("response.output_item.done", item=item, output_index=place["output_index"])
        self._open = None
        return out

    def _finish(self, reason: str, usage: Usage) -> str:
        cut = reason == "length"
        out = self._close(complete=not cut)
        self._whole["status"] = "incomplete" if cut else "completed"
        self._whole["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None
        self._whole["usage"] = {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }
        return out + self._send(f"response.{self._whole['status']}", response=self._whole)

    def _place(self) -> Item:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self._whole["output"]) - 1}

    def _send(self, kind: str, **fields: Any) -> str:
        out = sse({"type": kind, "sequence_number": self._number} | fields, kind)
        self._number += 1
        return out
