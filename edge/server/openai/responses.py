"""POST /v1/responses: OpenAI's later chat API. The server stores nothing: each request has the whole conversation."""

from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..body import read_body
from ..endpoint import Endpoint
from ..generation.job import GenerationJob
from ..pool.dispatcher import Dispatcher
from ..pool.event_stream import EventStream
from .response_stream import ResponseStream
from .responses_request import ResponsesRequest, to_params


class ResponsesReply(BaseModel):
    """The reply. The items of `output` are of the types reasoning, message and function_call."""

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


async def create_response(dispatcher: Dispatcher, request: Request) -> Response:
    """Return or stream the reply to a conversation."""
    body = await read_body(request, ResponsesRequest)
    entry = dispatcher.pool.find(body.model)
    job = GenerationJob(
        body.model,
        1,
        lambda model: to_params(body, model, dispatcher.limits),
        needs_check=bool(body.tools or body.format),
    )
    replies = await dispatcher.start(request, job, stream=bool(body.stream))
    response = ResponseStream(body, entry.name, entry.source.sampling())
    if body.stream:
        return EventStream(replies, response)
    (events,) = await replies.collect(request)
    for event in events:
        response.encode(0, event)
    return JSONResponse(ResponsesReply(**response.whole).model_dump(mode="json"))


ENDPOINT = Endpoint("POST", "/v1/responses", create_response, ResponsesRequest, ResponsesReply, stream=True)
