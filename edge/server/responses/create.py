"""POST /v1/responses: OpenAI's later chat API. A response is stored, unless `store` is false."""

import asyncio
from contextlib import suppress
from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.job import GenerationJob
from ..guard.body import read_body
from ..logs.log import LOG
from ..logs.request_record import record_error
from ..pool.dispatcher import Dispatcher, ReplyStream
from ..pool.event_stream import EventStream
from .context import Context, resolve_context
from .request import ResponsesRequest, to_params
from .store.access import has_store, owner_of, store_of
from .store.record import Record, Store
from .stream import ResponseStream


class ResponsesReply(BaseModel):
    """The reply. The items of `output` are of the types reasoning, message, function_call and custom_tool_call."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    model: str
    status: Literal["completed", "incomplete", "failed", "cancelled", "in_progress"]
    background: Literal[False] = False
    error: dict[str, Any] | None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None = None
    metadata: dict[str, str]
    output: list[dict[str, Any]]
    parallel_tool_calls: bool
    previous_response_id: str | None = None
    conversation: dict[str, str] | None = None
    reasoning: dict[str, Any] | None = None
    store: bool = True
    temperature: float
    text: dict[str, Any] | None = None
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_p: float
    truncation: Literal["auto", "disabled"] = "disabled"
    usage: dict[str, Any] | None
    user: str | None = None


async def create_response(dispatcher: Dispatcher, request: Request) -> Response:
    """Return or stream the reply to a conversation."""
    body = await read_body(request, ResponsesRequest)
    entry = dispatcher.pool.find(body.model)
    selection = body.selection()
    if selection.left_out:
        kinds = sorted({name.partition(" ")[0] for name in selection.left_out})
        LOG.info("POST /v1/responses: tools of these types are not offered to the model: %s", ", ".join(kinds))
    store, owner, keep = store_of(request), owner_of(request), body.store is not False and has_store(request)
    context = await asyncio.to_thread(resolve_context, body, store, owner, dispatcher.pool.chat_bytes)
    job = GenerationJob(
        body.model,
        1,
        lambda model: to_params(body, context.items, selection, model, dispatcher.limits),
        needs_check=bool(body.tools or body.format),
        prompt_param="input",
    )
    response = ResponseStream(body, context, selection, entry.name, entry.source.sampling())
    storing = _Storing(store, owner, context, response, keep=keep)
    try:
        replies = await dispatcher.start(request, job, stream=bool(body.stream))
    except ApiError as exc:
        if not body.stream or exc.code != "context_length_exceeded":
            raise
        record_error(request.scope, exc.code)
        # As OpenAI has it: Codex, for one, recognizes a full context by the event of a failed response alone.
        return Response(response.opening() + response.failure(exc), media_type=response.media_type)
    if body.stream:
        return _StoredStream(replies, response, storing)
    (events,) = await replies.collect(request)
    for event in events:
        response.encode(0, event)
    await storing.save()
    return JSONResponse(ResponsesReply(**response.whole).model_dump(mode="json"))


class _Storing:
    """The response's way into the store, once it has ended: it is kept by its id, and added to its conversation."""

    def __init__(self, store: Store, owner: str, context: Context, response: ResponseStream, *, keep: bool) -> None:
        self._store = store
        self._owner = owner
        self._context = context
        self._response = response
        self._keep = keep
        self._saved = False

    @property
    def due(self) -> bool:
        """Whether the response has ended and is not stored yet."""
        return not self._saved and self._response.whole["status"] != "in_progress"

    async def save(self) -> None:
        """Store the response. If that fails, the log says so, and the response's `store` is false."""
        self._saved = True
        try:
            stored = await asyncio.shield(asyncio.to_thread(self._write))
        except Exception as exc:  # noqa: BLE001 the reply itself is complete
            LOG.error("a response could not be stored: %s", exc)
            stored = False
        self._response.whole["store"] = stored and self._keep

    def _write(self) -> bool:
        whole, stored = self._response.whole, True
        if self._keep:
            items = list(self._context.given)
            stored = self._store.put(Record(whole["id"], self._owner, "response", whole, items, self._context.previous))
        if self._context.conversation and whole["status"] in ("completed", "incomplete"):
            items = [*self._context.given, *whole["output"]]
            stored = self._store.append(self._owner, self._context.conversation, items) and stored
        if not stored:
            LOG.warning("a response is larger than the store of responses: it was not stored")
        return stored


class _StoredStream(EventStream):
    """A stream whose response is stored before the client sees its end, or when the client disconnects."""

    def __init__(self, replies: ReplyStream, response: ResponseStream, storing: _Storing) -> None:
        super().__init__(replies, response)
        self._response = response
        self._storing = storing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, as ASGI has it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._response.cancel()
            if self._storing.due:
                with suppress(asyncio.CancelledError):
                    await self._storing.save()

    async def before_chunk(self) -> None:
        """Store the response once it has ended."""
        if self._storing.due:
            await self._storing.save()


ENDPOINT = Endpoint(
    "POST", "/v1/responses", create_response, ResponsesRequest, ResponsesReply, stream=True, pictures=True
)
