"""POST /v1/responses/input_tokens, and /v1/responses/compact: a conversation becomes the model's summary of it."""

import asyncio
import time
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.events import Finish
from runtime.model import Model
from runtime.reply.reply import Reply
from runtime.reply.tool_choice import ToolChoice

from ..endpoint import Endpoint
from ..generation.job import GenerationJob
from ..generation.params import GenerationParams
from ..guard.body import read_body
from ..limits import Limits
from ..pool.dispatcher import Dispatcher
from .context import Context, resolve_context
from .items import new_id, to_items, to_messages
from .request import ContextFields, ResponsesRequest, to_params
from .store.access import owner_of, store_of
from .store.record import Item
from .stream import usage_object

_SUMMARY_TOKENS = 1024
_PROMPT = (
    "Summarize the conversation so far for whoever continues it: the task, what was decided and done, the facts, names "
    "and values that are needed, and what remains to be done. Write nothing but the summary."
)


class InputTokens(BaseModel):
    """The number of tokens of a request's prompt."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


class CompactRequest(ContextFields):
    """A request to compact a conversation."""

    model: str | None = None


class CompactedResponse(BaseModel):
    """The compacted conversation: the user's messages, and an item with the summary of everything else, which is not
    encrypted. It is the input of later requests."""

    id: str
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[dict[str, Any]]
    usage: dict[str, Any]


async def count_input_tokens(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the number of tokens in the prompt of a request to /v1/responses."""
    body = await read_body(request, ResponsesRequest)
    entry = dispatcher.pool.find(body.model)
    context = await _resolve(dispatcher, request, body)
    selection = body.selection()
    model = await dispatcher.pool.load(entry)

    def count() -> int:
        return to_params(body, context.items, selection, model, dispatcher.limits).count_tokens(model)

    return JSONResponse(InputTokens(input_tokens=await asyncio.to_thread(count)).model_dump())


async def compact_response(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the conversation's user messages, and the model's summary of it."""
    body = await read_body(request, CompactRequest)
    context = await _resolve(dispatcher, request, body)
    job = GenerationJob(
        body.model,
        1,
        lambda model: _to_params(body, context, model, dispatcher.limits),
        needs_check=False,
        prompt_param="input",
    )
    replies = await dispatcher.start(request, job)
    (events,) = await replies.collect(request)
    (usage,) = (event.usage for event in events if isinstance(event, Finish))
    users = [item for item in context.items if item["type"] == "message" and item.get("role") == "user"]
    summary: Item = {
        "type": "compaction",
        "id": new_id("compaction"),
        "encrypted_content": Reply.from_events(events).text,
    }
    compacted = CompactedResponse(
        id=f"resp_{uuid4().hex}", created_at=int(time.time()), output=[*users, summary], usage=usage_object(usage)
    )
    return JSONResponse(compacted.model_dump())


async def _resolve(dispatcher: Dispatcher, request: Request, body: ContextFields) -> Context:
    store, owner, nbytes = store_of(request), owner_of(request), dispatcher.pool.chat_bytes
    return await asyncio.to_thread(resolve_context, body, store, owner, nbytes)


def _to_params(body: CompactRequest, context: Context, model: Model, limits: Limits) -> GenerationParams:
    """Return the parameters of the summary. What is compacted is often too long for the context: its oldest turns are
    dropped."""
    messages = to_messages(body.instructions, [*context.items, *to_items(_PROMPT)], limits)
    sampling = model.sampling.override(max_new_tokens=_SUMMARY_TOKENS)
    params = GenerationParams.create(messages, (), ToolChoice("none"), None, sampling, limits=limits, parallel=True)
    return params.fit(model)


ENDPOINTS = (
    Endpoint("POST", "/v1/responses/input_tokens", count_input_tokens, ResponsesRequest, InputTokens, pictures=True),
    Endpoint("POST", "/v1/responses/compact", compact_response, CompactRequest, CompactedResponse, pictures=True),
)
