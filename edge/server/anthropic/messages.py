"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's chat API."""

import asyncio
from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.model import Model

from ..endpoint import Endpoint
from ..generation.job import GenerationJob
from ..guard.body import read_body
from ..pool.dispatcher import Dispatcher
from ..pool.event_stream import EventStream
from .error_format import MessagesError, error_body
from .message_request import CountTokensRequest, MessagesRequest, to_params, to_prompt_params
from .message_stream import MessageStream


class MessageUsage(BaseModel):
    """The token counts of a request."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class MessagesReply(BaseModel):
    """The reply. The blocks of `content` are of the types thinking, text and tool_use."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
    stop_sequence: str | None
    usage: MessageUsage


class TokenCountReply(BaseModel):
    """The number of tokens in a prompt: messages, system prompt and tools."""

    input_tokens: int


async def create_message(dispatcher: Dispatcher, request: Request) -> Response:
    """Return or stream the reply to a chat."""
    body = await read_body(request, MessagesRequest)
    entry = dispatcher.pool.find(body.model)
    job = GenerationJob(
        body.model,
        1,
        lambda model: to_params(body, model, dispatcher.limits),
        needs_check=bool(body.tools or body.format),
    )
    replies = await dispatcher.start(request, job, stream=bool(body.stream))
    message = MessageStream(body, entry.name)
    if body.stream:
        return EventStream(replies, message)
    (events,) = await replies.collect(request)
    for event in events:
        message.encode(0, event)
    return JSONResponse(MessagesReply(**message.whole).model_dump(mode="json"))


async def count_tokens(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the number of tokens in the prompt of a request."""
    body = await read_body(request, CountTokensRequest)

    def count(model: Model) -> int:
        params = to_prompt_params(body, model.sampling, dispatcher.limits)
        tools = [spec.tool.to_json() for spec in params.tools]
        prompt = model.prompt(params.messages, tools, template_variables=params.template_variables)
        return model.backend.count_tokens(prompt)

    async with dispatcher.pool.use(dispatcher.pool.find(body.model)) as model:
        tokens = await asyncio.to_thread(count, model)
    return JSONResponse(TokenCountReply(input_tokens=tokens).model_dump())


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/messages",
        create_message,
        MessagesRequest,
        MessagesReply,
        stream=True,
        pictures=True,
        error_format=error_body,
        error_model=MessagesError,
    ),
    Endpoint(
        "POST",
        "/v1/messages/count_tokens",
        count_tokens,
        CountTokensRequest,
        TokenCountReply,
        pictures=True,
        error_format=error_body,
        error_model=MessagesError,
    ),
)
