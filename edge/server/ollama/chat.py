"""POST /api/chat: Ollama's chat API."""

from typing import Annotated, Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.model import Model
from runtime.prompt.families import BASE
from runtime.reply.tool_choice import ToolChoice
from runtime.tools import Tool

from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.fields import LIST_LIMIT
from ..generation.job import GenerationJob
from ..generation.params import GenerationParams, ToolSpec, check_tool_count
from ..guard.body import read_body
from ..limits import Limits
from ..pool.dispatcher import Dispatcher
from .api_error import OllamaError, error_body
from .messages import OllamaChatMessage, to_messages
from .models import find_model
from .reply import NDJSON, ChatReply, ReplyLines, chat_fields
from .request import ReplyRequest
from .respond import load, respond


class OllamaChatRequest(ReplyRequest):
    """A request for a reply to a chat. Without messages, the model is loaded. With `truncate`, the oldest turns of a
    chat that is longer than the context are left out."""

    messages: Annotated[list[OllamaChatMessage], LIST_LIMIT] | None = None
    tools: Annotated[list[dict[str, Any]], LIST_LIMIT] | None = None


async def create_chat(dispatcher: Dispatcher, request: Request) -> Response:
    """Return or stream the reply to a chat."""
    body = await read_body(request, OllamaChatRequest)
    entry = find_model(dispatcher.pool, body.model_name)
    dispatcher.pool.keep(entry, body.keep_alive_seconds())
    lines = ReplyLines(body.model_name or entry.name, chat_fields, thinking=body.think is not False)
    if not body.messages:
        return await load(dispatcher, entry, body, lines)
    job = GenerationJob(
        entry.name,
        1,
        lambda model: to_params(body, model, dispatcher.limits),
        needs_check=bool(body.tools or body.format),
    )
    return await respond(dispatcher, request, job, body, lines)


def to_params(body: OllamaChatRequest, model: Model, limits: Limits) -> GenerationParams:
    """Convert a request. Raises ApiError or RequestError for what is not supported or cannot be enforced."""
    if model.family is BASE:
        message = f'"{body.model_name}" does not support chat: it is a base model; use /api/generate'
        raise ApiError(400, message, param="model", code="unsupported_parameter")
    check_tool_count(body.tools, limits)
    choice = ToolChoice("auto")
    tools = [
        ToolSpec.create(
            Tool.from_json(tool),
            strict=False,
            choice=choice,
            limits=limits,
            param=f"tools[{index}].function.parameters",
        )
        for index, tool in enumerate(body.tools or ())
    ]
    params = GenerationParams.create(
        to_messages(body.messages or (), limits),
        tools,
        choice,
        body.reply_format,
        body.sampling(model),
        limits=limits,
        parallel=True,
        template_variables=body.template_variables(model),
    )
    return params.fit(model) if body.truncate else params


ENDPOINT = Endpoint(
    "POST",
    "/api/chat",
    create_chat,
    OllamaChatRequest,
    ChatReply,
    stream=True,
    pictures=True,
    stream_type=NDJSON,
    error_format=error_body,
    error_model=OllamaError,
)
