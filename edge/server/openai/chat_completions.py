"""POST /v1/chat/completions: OpenAI's chat API, with `reasoning_content` beside the content."""

import time
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..endpoint import Endpoint
from ..generation.fields import reply_count
from ..generation.job import GenerationJob
from ..guard.body import read_body
from ..pool.dispatcher import Dispatcher
from ..pool.event_stream import EventStream
from .chat_reply import ChatCompletion, to_completion
from .chat_request import ChatRequest, to_params
from .chat_stream import ChunkStream


async def create_chat_completion(dispatcher: Dispatcher, request: Request) -> Response:
    """Return or stream the replies to a chat."""
    body = await read_body(request, ChatRequest)
    entry = dispatcher.pool.find(body.model)
    count = reply_count(body.n, dispatcher.limits)
    job = GenerationJob(
        body.model,
        count,
        lambda model: to_params(body, model, dispatcher.limits),
        needs_check=bool(body.tools or body.format),
    )
    replies = await dispatcher.start(request, job, stream=bool(body.stream))
    base: dict[str, Any] = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": entry.name}
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        return EventStream(replies, ChunkStream(base, count, include_usage))
    return JSONResponse(to_completion(base, await replies.collect(request), bool(body.logprobs)))


ENDPOINT = Endpoint(
    "POST",
    "/v1/chat/completions",
    create_chat_completion,
    ChatRequest,
    ChatCompletion,
    stream=True,
    pictures=True,
)
