"""POST /chat: a chat whose tools run on the server, for its own page. Server-sent events of our own:

    text {text}
    reasoning {text}
    tool_call_delta {id, name, arguments}
    tool_call {id, name, arguments, complete}
    tool_result {call_id, name, content, error}
    finish {reason, usage, messages}
    error {message, type, param, code}

`messages` of the finish are what the chat gained, to be sent with the next request; the server keeps nothing. GET /chat
tells which tools there are.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from importlib import import_module
from typing import Annotated

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.chat import Chat
from runtime.errors import RequestError, ToolError
from runtime.messages import Event, Finish, Message, Reasoning, Text, ToolCall, ToolCallDelta, ToolResult
from runtime.model import Model
from runtime.tools import Tool, toolbox

from .asked import Count, SamplingFields, Seed, sampling_of
from .chat import ChatMessage, messages_of
from .counter import Counter, sse, stream
from .counter import read as read_body
from .replies import Indexed

_NAMES: dict[type, str] = {
    Text: "text",
    Reasoning: "reasoning",
    ToolCallDelta: "tool_call_delta",
    ToolCall: "tool_call",
    ToolResult: "tool_result",
}


class PageRequest(SamplingFields):
    """The last message is the user's. The events are streamed always."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Count | None = None
    seed: Seed | None = None


class ToolEntry(BaseModel):
    name: str
    description: str


class PageFacts(BaseModel):
    tools: list[ToolEntry]


def named(names: Sequence[str]) -> tuple[Tool, ...]:
    """The tools that MODULE:FUNCTION names. Raises RequestError where there is none, ToolError where it is no tool."""
    found = []
    for name in names:
        module, _, function = name.partition(":")
        if not module or not function:
            raise RequestError(f"{name} names no function", hint="write it as MODULE:FUNCTION")
        try:
            found.append(getattr(import_module(module), function))
        except (ImportError, AttributeError) as exc:
            raise RequestError(f"there is no {name}: {exc}", hint="is its folder in PYTHONPATH?") from exc
        if not callable(found[-1]) and not isinstance(found[-1], Tool):
            raise ToolError(f"{name} is no function", hint="name a typed Python function, or an edge.Tool")
    return tuple(toolbox(found).values())


async def facts(tools: Sequence[Tool], counter: Counter, request: Request) -> Response:
    entries = [ToolEntry(name=tool.name, description=tool.description) for tool in tools]
    return JSONResponse(PageFacts(tools=entries).model_dump())


async def chat(tools: Sequence[Tool], counter: Counter, request: Request) -> Response:
    body = await read_body(request, PageRequest)
    *history, last = messages_of(body.messages, counter.limits)
    if last.role != "user":
        raise RequestError("the last message is not the user's", hint="send what the user says last")
    gained: list[Message] = []

    def write(model: Model, index: int) -> Generator[Event, None, None]:
        sampling = sampling_of(body, model.sampling, body.max_tokens, (), body.seed)
        talk = Chat(model, tools=tools, sampling=sampling, history=history)
        with closing(talk.stream(last.content)) as events:
            for event in events:
                if isinstance(event, Finish):
                    gained.extend(talk.history[len(history) :])
                yield event

    def told(batch: list[Indexed]) -> str:
        return "".join(_event(event, gained) for _, event in batch)

    served = await counter.serve(request, body.model, 1, write)
    return stream(served, told, "", lambda: "", lambda error: sse(error.body()["error"], "error"))


def _event(event: Event, gained: Sequence[Message]) -> str:
    if isinstance(event, Finish):
        messages = [message.to_json() for message in gained]
        return sse({"reason": event.reason, "usage": asdict(event.usage), "messages": messages}, "finish")
    return sse(asdict(event), _NAMES[type(event)])
