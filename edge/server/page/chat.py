"""POST /chat: a chat whose tools run on the server, for its own page. Server-sent events of our own:

    text {text}
    reasoning {text}
    tool_call_delta {id, name, arguments}
    tool_call {id, name, arguments, complete}
    tool_result {call_id, name, content, error}
    documents {content, citations, whole, notes}
    dropped {dropped}
    finish {reason, usage, messages}
    error {message, type, param, code}

The finish event's `messages` are those that the reply added to the chat; the page sends them with its next request, as
the server stores nothing. A dropped event says how many of the oldest messages no longer fit, and are not read. A
request with documents has a documents event first: `content` is the message as the model reads it, which the page
repeats in later requests, `citations` are the passages in it, and `whole` names the documents that are in it as a
whole. GET /chat returns the models, the tools, and the kiosk's settings.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.chat import Chat
from runtime.errors import RequestError
from runtime.events import (
    Documents,
    DroppedMessages,
    Event,
    Finish,
    PictureProgress,
    Reasoning,
    Text,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)
from runtime.messages import Message
from runtime.model import Model
from runtime.toolbox import Toolbox
from runtime.tools import Tool
from runtime.version import VERSION

from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.fields import LIST_LIMIT, SamplingFields, Seed, TokenCount, merge_sampling
from ..guard.body import read_body
from ..openai.chat_messages import ChatMessage, to_messages
from ..pool.dispatcher import Dispatcher, ReplyJob
from ..pool.event_stream import SSE, SSE_COMMENT, EventStream, sse
from ..pool.model_pool import reads_pictures
from ..pool.workers import EARLY_FINISH, ReplyEvents
from .documents import SUFFIXES, PageDocument, Uploads
from .kiosk import Kiosk, Language

_MAX_DOCUMENTS = 20
_EVENT_NAMES: dict[type, str] = {
    Text: "text",
    PictureProgress: "picture_progress",
    Reasoning: "reasoning",
    ToolCallDelta: "tool_call_delta",
    ToolCall: "tool_call",
    ToolResult: "tool_result",
}


class PageRequest(SamplingFields):
    """A chat whose last message is the user's, with its documents. The reply is always streamed."""

    messages: Annotated[list[ChatMessage], Field(min_length=1), LIST_LIMIT]
    documents: Annotated[list[PageDocument], Field(max_length=_MAX_DOCUMENTS)] | None = None
    max_tokens: TokenCount | None = None
    seed: Seed | None = None


class ToolEntry(BaseModel):
    """A tool that runs on the server."""

    name: str
    description: str


class PageModel(BaseModel):
    """A model, its context length in tokens, whether it reads pictures, and the sampling settings that apply if a
    request sets none."""

    name: str
    context: int
    pictures: bool
    temperature: float
    top_p: float


class KioskFacts(BaseModel):
    """The kiosk's settings that its page needs."""

    idle: int
    language: Language | None
    title: str | dict[Language, str]
    suggestions: list[str] | dict[Language, list[str]]


class PageFacts(BaseModel):
    """The server's version, models, tools, kiosk settings, and the suffixes of documents that it reads. `kiosk` is None
    unless the server is a kiosk."""

    version: str
    models: list[PageModel]
    tools: list[ToolEntry]
    documents: list[str]
    kiosk: KioskFacts | None


class PageJob(ReplyJob):
    """One reply of a chat with the server's tools."""

    def __init__(
        self,
        body: PageRequest,
        history: Sequence[Message],
        message: Message,
        tools: Sequence[Tool],
        *,
        max_tokens: int | None,
        tool_timeout: float,
    ) -> None:
        super().__init__(body.model)
        self._body = body
        self._history = history
        self._message = message
        self._tools = tools
        self._max_tokens = max_tokens
        self._tool_timeout = tool_timeout
        self._chat: Chat | None = None

    def start(self, model: Model, index: int) -> ReplyEvents:
        """Begin the reply to the last message."""
        sampling = merge_sampling(self._body, model.sampling, max_new_tokens=self._max_tokens, seed=self._body.seed)
        self._chat = Chat(
            model,
            tools=self._tools,
            tool_timeout=self._tool_timeout,
            sampling=sampling,
            history=self._history,
            overflow="drop",
        )
        documents = [one.to_document() for one in self._body.documents or ()]
        return self._chat.stream(self._message, documents=documents)

    def new_messages(self) -> Sequence[Message]:
        """Return the messages that a finished reply added to the history."""
        return self._chat.history[len(self._history) :] if self._chat else ()


class PageStream:
    """The events of a reply in the page's format."""

    media_type = SSE
    heartbeat = SSE_COMMENT

    def __init__(self, job: PageJob) -> None:
        self._job = job

    def opening(self) -> str:
        """Encode nothing."""
        return ""

    def encode(self, index: int, event: Event) -> str:
        """Encode an event under its name."""
        if isinstance(event, Finish):
            new = () if event is EARLY_FINISH else self._job.new_messages()
            # The page has the pictures that it sent.
            messages = [replace(message, pictures=(), picture_places=()).to_json() for message in new]
            return sse({"reason": event.reason, "usage": asdict(event.usage), "messages": messages}, "finish")
        if isinstance(event, Documents):
            return sse(_encode_documents(event), "documents")
        if isinstance(event, DroppedMessages):
            return sse({"dropped": event.count}, "dropped")
        return sse(asdict(event), _EVENT_NAMES[type(event)])

    def ending(self) -> str:
        """Encode nothing."""
        return ""

    def failure(self, error: ApiError) -> str:
        """Encode an error."""
        return sse(error.body()["error"], "error")


def _encode_documents(event: Documents) -> dict[str, Any]:
    whole = dict.fromkeys(one.document for one in event.citations if not one.number)
    passages = [asdict(one) for one in event.citations if one.number]
    return {"content": event.content, "citations": passages, "whole": list(whole), "notes": event.notes}


async def page_facts(toolbox: Toolbox, kiosk: Kiosk | None, dispatcher: Dispatcher, request: Request) -> Response:
    """Return the server's version, models, tools and kiosk settings."""
    models = []
    for entry in dispatcher.pool.entries.values():
        own = entry.sampling.resolve()
        context = entry.source.manifest.context_length
        models.append(
            PageModel(
                name=entry.name,
                context=context,
                pictures=reads_pictures(entry.source) and (kiosk is None or kiosk.pictures),
                temperature=own.temperature,
                top_p=own.top_p,
            )
        )
    tools = toolbox.offered().by_name.values()
    entries = [ToolEntry(name=tool.name, description=tool.description) for tool in tools]
    shown = KioskFacts.model_validate(kiosk, from_attributes=True) if kiosk else None
    suffixes = [] if kiosk else list(SUFFIXES)
    return JSONResponse(
        PageFacts(version=VERSION, models=models, tools=entries, documents=suffixes, kiosk=shown).model_dump()
    )


async def chat(toolbox: Toolbox, kiosk: Kiosk | None, dispatcher: Dispatcher, request: Request) -> Response:
    """Stream the reply to the last message, running the tools that the model calls."""
    body = await read_body(request, PageRequest)
    *history, last = await asyncio.to_thread(to_messages, body.messages, dispatcher.limits)  # decodes pictures
    if last.role != "user":
        raise RequestError("the last message is not the user's", hint="end the messages with one whose role is user")
    max_tokens = body.max_tokens
    if kiosk:
        kiosk.reject_overrides(body, [*history, last])
        max_tokens = kiosk.max_tokens
        history = [Message("system", kiosk.system), *history] if kiosk.system else history
    timeout = dispatcher.limits.tool_seconds
    tools = tuple(toolbox.offered().by_name.values())
    job = PageJob(body, history, last, tools, max_tokens=max_tokens, tool_timeout=timeout)
    return EventStream(await dispatcher.start(request, job, stream=True), PageStream(job))


def endpoints(toolbox: Toolbox, kiosk: Kiosk | None) -> tuple[Endpoint, ...]:
    """Return the page's endpoints, with the tools that its chat may call."""
    return (
        Endpoint("GET", "/chat", partial(page_facts, toolbox, kiosk), None, PageFacts, on_kiosk=True),
        Endpoint(
            "POST", "/chat", partial(chat, toolbox, kiosk), PageRequest, stream=True, pictures=True, on_kiosk=True
        ),
        *Uploads().endpoints,
    )
