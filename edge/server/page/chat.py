"""POST /chat: a chat whose tools run on the server, for its own page. Server-sent events of our own:

    text {text}
    reasoning {text}
    tool_call_delta {id, name, arguments}
    tool_call {id, name, arguments, complete}
    tool_result {call_id, name, content, error}
    finish {reason, usage, messages}
    error {message, type, param, code}

`messages` of the finish are what the chat gained, to be sent with the next request; the server keeps nothing. GET /chat
tells which models and tools there are, and whether this is a kiosk.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from importlib import import_module
from typing import Annotated

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.cancellation import Cancellation
from runtime.chat import Chat
from runtime.errors import RequestError, ToolError
from runtime.messages import Event, Finish, Message, Reasoning, Text, ToolCall, ToolCallDelta, ToolResult
from runtime.model import Model
from runtime.tools import Tool, toolbox
from runtime.version import VERSION

from ..openai.chat_completions import ChatMessage, to_messages
from ..openai.params import LIST_LIMIT, SamplingFields, Seed, TokenCount, merge_sampling
from ..pool.dispatcher import Dispatcher, read_body, sse, stream
from ..pool.workers import Indexed
from .kiosk import Kiosk, Language

_EVENT_NAMES: dict[type, str] = {
    Text: "text",
    Reasoning: "reasoning",
    ToolCallDelta: "tool_call_delta",
    ToolCall: "tool_call",
    ToolResult: "tool_result",
}


class PageRequest(SamplingFields):
    """The last message is the user's. The events are streamed always."""

    messages: Annotated[list[ChatMessage], Field(min_length=1), LIST_LIMIT]
    max_tokens: TokenCount | None = None
    seed: Seed | None = None


class ToolEntry(BaseModel):
    name: str
    description: str


class PageModel(BaseModel):
    """The sampling is what holds where a request sets none; `context` is in tokens."""

    name: str
    context: int
    temperature: float
    top_p: float


class KioskFacts(BaseModel):
    idle: int
    language: Language | None
    title: str | dict[Language, str]
    suggestions: list[str] | dict[Language, list[str]]


class PageFacts(BaseModel):
    version: str
    models: list[PageModel]
    tools: list[ToolEntry]
    kiosk: KioskFacts | None


def load_tools(names: Sequence[str]) -> tuple[Tool, ...]:
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


async def page_facts(tools: Sequence[Tool], kiosk: Kiosk | None, dispatcher: Dispatcher, request: Request) -> Response:
    models = []
    for entry in dispatcher.pool.entries.values():
        own = entry.folder.sampling()
        context = entry.folder.manifest.context_length
        models.append(PageModel(name=entry.name, context=context, temperature=own.temperature, top_p=own.top_p))
    entries = [ToolEntry(name=tool.name, description=tool.description) for tool in tools]
    shown = KioskFacts.model_validate(kiosk, from_attributes=True) if kiosk else None
    return JSONResponse(PageFacts(version=VERSION, models=models, tools=entries, kiosk=shown).model_dump())


async def chat(tools: Sequence[Tool], kiosk: Kiosk | None, dispatcher: Dispatcher, request: Request) -> Response:
    body = await read_body(request, PageRequest)
    *history, last = to_messages(body.messages, dispatcher.limits)
    if last.role != "user":
        raise RequestError("the last message is not the user's", hint="send what the user says last")
    limit = body.max_tokens
    if kiosk:
        kiosk.reject_overrides(body, history)
        limit = kiosk.max_tokens
        history = [Message("system", kiosk.system), *history] if kiosk.system else history
    gained: list[Message] = []

    def write(model: Model, index: int, cancellation: Cancellation) -> Generator[Event, None, None]:
        sampling = merge_sampling(body, model.sampling, limit, (), body.seed)
        seconds = dispatcher.limits.tool_seconds
        talk = Chat(model, tools=tools, tool_timeout=seconds, sampling=sampling, history=history)
        with closing(talk.stream(last.content)) as events, cancellation.calling(talk.cancel):
            for event in events:
                if isinstance(event, Finish):
                    gained.extend(talk.history[len(history) :])
                yield event

    def told(batch: list[Indexed]) -> str:
        return "".join(_event(event, gained) for _, event in batch)

    served = await dispatcher.start(request, body.model, 1, write)
    return stream(served, told, "", lambda: "", lambda error: sse(error.body()["error"], "error"))


def _event(event: Event, gained: Sequence[Message]) -> str:
    if isinstance(event, Finish):
        messages = [message.to_json() for message in gained]
        return sse({"reason": event.reason, "usage": asdict(event.usage), "messages": messages}, "finish")
    return sse(asdict(event), _EVENT_NAMES[type(event)])
