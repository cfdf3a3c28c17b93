"""POST /chat: a chat whose tools run on the server, for its own page. Server-sent events of our own:

    text {text}
    reasoning {text}
    tool_call_delta {id, name, arguments}
    tool_call {id, name, arguments, complete}
    tool_result {call_id, name, content, error, pictures, citations}
    documents {content, citations, whole, notes}
    dropped {dropped}
    approval {calls}
    finish {reason, usage, messages, context_used}
    error {message, type, param, code}

The finish event's `messages` are those that the reply added to the chat; the page sends them with its next request, as
the server stores nothing; `context_used` is the part of the context that they take by now, from 0 to 1. A dropped event
says how many of the oldest messages no longer fit, and are not read. A request with documents has a documents event
first: `content` is the message as the model reads it, which the page repeats in later requests, `citations` are the
passages in it, and `whole` names the documents that are in it as a whole.

A tool's `pictures` are data: URLs, and its `citations` are {number, document, place, text}: 【7†source】 in an answer
cites the passage with the number 7.

Approval: a call of a tool whose `approval` is true ends the reply, and frees the model. An approval event, with the
`calls` as {id, name, arguments}, precedes the finish, whose reason is "approval". The page asks the person, and sends
another request with all messages so far and `decisions`, which maps each call's id to true or false. Its events are
first the tool_result of each call; the messages of its finish begin with them. A tool's time limit starts with that
request. Of `approved_tools` calls run at once: the person said "always". Only the server's tools can run, and of these
only those that `tools` names, if the request has it. `session` is the conversation's own id: the variables of the
python tool live on between requests of one session; without it they last for the reply.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from runtime.cancellation import Cancellable, Cancellation
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

from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.fields import LIST_LIMIT, FunctionName, SamplingFields, Seed, TokenCount, merge_sampling
from ..guard.body import read_body
from ..logs.request_record import CLIENT
from ..openai.chat_messages import ChatMessage, to_messages
from ..pool.auxiliary.encoders import EncoderPool
from ..pool.dispatcher import Dispatcher, ReplyJob
from ..pool.event_stream import SSE, SSE_COMMENT, EventStream, sse
from ..pool.workers import EARLY_FINISH, ReplyEvents
from .approval import hold, require_decisions, resume, select, waiting_calls
from .documents import PageDocument, Uploads
from .facts import PageFacts, page_facts
from .kiosk import Kiosk
from .meaning import embed_by
from .voice import PageVoice

_MAX_DOCUMENTS = 20
_EVENT_NAMES: dict[type, str] = {
    Text: "text",
    PictureProgress: "picture_progress",
    Reasoning: "reasoning",
    ToolCallDelta: "tool_call_delta",
    ToolCall: "tool_call",
}


class PageRequest(SamplingFields):
    """A chat whose last message is the user's, with its documents; or one whose last calls a person has decided on,
    with `decisions` by their ids. The reply is always streamed."""

    messages: Annotated[list[ChatMessage], Field(min_length=1), LIST_LIMIT]
    documents: Annotated[list[PageDocument], Field(max_length=_MAX_DOCUMENTS)] | None = None
    max_tokens: TokenCount | None = None
    seed: Seed | None = None
    tools: Annotated[list[FunctionName], LIST_LIMIT] | None = None
    session: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")] | None = None
    approved_tools: Annotated[list[FunctionName], LIST_LIMIT] | None = None
    decisions: Annotated[dict[str, bool], Field(max_length=1000)] | None = None


class PageJob(ReplyJob):
    """One reply of a chat with the server's tools: to the last message, or to the calls that were decided on."""

    def __init__(
        self,
        body: PageRequest,
        history: Sequence[Message],
        toolbox: Toolbox,
        *,
        max_tokens: int | None,
        timeout: float,
        encoders: EncoderPool,
        client: str,
    ) -> None:
        super().__init__(body.model)
        self._body = body
        self._calls = waiting_calls(history) if body.decisions is not None else ()
        self._history = history if body.decisions is not None else history[:-1]
        self._message = history[-1]
        self._toolbox = toolbox
        self._session = body.session or uuid4().hex
        self._tools = select(toolbox.offered(self._session).by_name, body.tools)
        self._max_tokens = max_tokens
        self._timeout = timeout
        self._cancellation = Cancellation()
        self._embed = embed_by(encoders, self._cancellation, client) if body.documents else None
        self._chat: Chat | None = None

    def start(self, model: Model, index: int) -> ReplyEvents:
        """Begin the reply."""
        body, cancellation = self._body, self._cancellation
        self._chat = Chat(
            model,
            tools=hold(self._tools, body.approved_tools or ()),
            tool_timeout=self._timeout,
            sampling=merge_sampling(body, model.sampling, max_new_tokens=self._max_tokens, seed=body.seed),
            history=self._history,
            overflow="drop",
            embedding_model=self._embed,
        )
        events: Cancellable[Event] | Generator[Event, None, None]
        if body.decisions is None:
            documents = [one.to_document() for one in body.documents or ()]
            events = self._chat.stream(self._message, documents=documents)
            if not self._tools and not documents:
                return events
        else:
            events = resume(self._chat, self._tools, self._calls, body.decisions, cancellation)
        return Cancellable(self._end_session_after(events, self._chat.cancel, cancellation), cancellation)

    def _end_session_after(
        self, events: Generator[Event, None, None], cancel: Callable[[], None], cancellation: Cancellation
    ) -> Generator[Event, None, None]:
        try:
            with closing(events), cancellation.on_cancel(cancel):
                yield from events
        finally:
            if self._body.session is None:
                self._toolbox.end_session(self._session)

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
            return self._encode_finish(event)
        if isinstance(event, Documents):
            return sse(_encode_documents(event), "documents")
        if isinstance(event, DroppedMessages):
            return sse({"dropped": event.count}, "dropped")
        if isinstance(event, ToolResult):
            return sse(_encode_result(event), "tool_result")
        return sse(asdict(event), _EVENT_NAMES[type(event)])

    def _encode_finish(self, event: Finish) -> str:
        new = () if event is EARLY_FINISH else self._job.new_messages()
        # The page has the pictures that it sent.
        messages = [_without_pictures(message).to_json() for message in new]
        calls = waiting_calls(new) if event.reason == "stop" else ()
        waiting = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]
        approval = sse({"calls": waiting}, "approval") if waiting else ""
        reason = "approval" if waiting else event.reason
        finish = {"reason": reason, "usage": asdict(event.usage), "messages": messages}
        return approval + sse(finish | {"context_used": round(event.context_used, 3)}, "finish")

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


def _encode_result(event: ToolResult) -> dict[str, Any]:
    return {
        "call_id": event.call_id,
        "name": event.name,
        "content": event.content,
        "error": event.error,
        "pictures": [picture.to_url() for picture in event.pictures],
        "citations": [asdict(citation) for citation in event.citations],
    }


def _without_pictures(message: Message) -> Message:
    return message if message.role == "tool" else replace(message, pictures=(), picture_places=())


async def chat(toolbox: Toolbox, kiosk: Kiosk | None, dispatcher: Dispatcher, request: Request) -> Response:
    """Stream the reply to the last message or to decided calls, running the tools that the model calls."""
    body = await read_body(request, PageRequest)
    messages = await asyncio.to_thread(to_messages, body.messages, dispatcher.limits)  # decodes pictures
    if body.decisions is not None:
        require_decisions(waiting_calls(messages), body.decisions)
        if body.documents:
            raise RequestError("decisions come without documents", hint="send them with the next question")
    elif messages[-1].role != "user":
        raise RequestError("the last message is not the user's", hint="end the messages with one whose role is user")
    max_tokens = body.max_tokens
    if kiosk:
        kiosk.reject_overrides(body, messages)
        max_tokens = kiosk.max_tokens
        messages = [Message("system", kiosk.system), *messages] if kiosk.system else messages
    job = PageJob(
        body,
        messages,
        toolbox,
        max_tokens=max_tokens,
        timeout=dispatcher.limits.tool_seconds,
        encoders=dispatcher.pool.encoders,
        client=request.scope.get(CLIENT, ""),
    )
    return EventStream(await dispatcher.start(request, job, stream=True), PageStream(job))


def endpoints(toolbox: Toolbox, kiosk: Kiosk | None) -> tuple[Endpoint, ...]:
    """Return the page's endpoints, with the tools that its chat may call."""
    voice = PageVoice(kiosk)
    return (
        Endpoint("GET", "/chat", partial(page_facts, toolbox, kiosk, voice), None, PageFacts, on_kiosk=True),
        Endpoint(
            "POST", "/chat", partial(chat, toolbox, kiosk), PageRequest, stream=True, pictures=True, on_kiosk=True
        ),
        *Uploads().endpoints,
        *voice.endpoints,
    )
