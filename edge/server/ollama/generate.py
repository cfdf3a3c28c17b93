"""POST /api/generate: Ollama's API for the reply to one prompt, or the continuation of a text."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runtime.cancellation import Cancellation
from runtime.errors import UnsupportedGrammar
from runtime.grammar.grammar import Grammar
from runtime.messages import Message
from runtime.model import Model
from runtime.prompt.families import BASE
from runtime.reply.tool_choice import ToolChoice

from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.job import GenerationJob
from ..generation.params import GenerationParams
from ..guard.body import read_body
from ..limits import Limits
from ..pool.dispatcher import Dispatcher, ReplyJob
from ..pool.workers import ReplyEvents
from .api_error import OllamaError, error_body
from .messages import to_pictures
from .models import find_model
from .reply import NDJSON, GenerateReply, ReplyLines, generate_fields
from .request import ReplyRequest
from .respond import load, respond

_UNSUPPORTED = {
    "suffix": "a completion goes at the end of the prompt",
    "template": "the checkpoint's chat template is used; send the whole prompt with raw",
    "context": "send the earlier messages to /api/chat",
    "truncate": "there are no earlier turns to leave out, and a prompt is not cut; send false, or leave it out",
}
_OF_CHATS = {  # of prompts that are continued as they are
    "system": "the prompt is continued as it is, without a chat template",
    "think": "the prompt is continued as it is, without a chat template",
    "images": "pictures belong to chats; leave out raw",
}


class GenerateRequest(ReplyRequest):
    """A request for the reply to `prompt`, a message of the user's after an optional `system` message. Without a
    prompt, the model is loaded.

    With `raw`, the prompt is a text to continue as it is: special tokens in it are read as such, and nothing is put
    before it. A base model, which has no chat template, continues the prompt.
    """

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None
    images: list[Any] | None = None


class ContinuationJob(ReplyJob):
    """The continuation of a text."""

    def __init__(self, model: str, body: GenerateRequest, limits: Limits) -> None:
        super().__init__(model)
        self._body = body
        self._grammar: Grammar | None = body.reply_format.grammar(limits) if body.reply_format else None
        self.needs_check = self._grammar is not None

    def check(self, model: Model, cancellation: Cancellation) -> None:
        """Reject a grammar that the engine rejects or cannot compile in time."""
        if self._grammar is not None:
            model.backend.admit(self._grammar, cancellation)

    def start(self, model: Model, index: int) -> ReplyEvents:
        """Begin the continuation."""
        sampling = self._body.sampling(model)
        return model.complete(self._body.prompt or "", sampling, answer=self._grammar, raw=bool(self._body.raw))

    def map_error(self, error: BaseException) -> BaseException:
        """Name the field whose grammar the engine rejects."""
        if not isinstance(error, UnsupportedGrammar):
            return error
        mapped = ApiError(400, f"{error}; {error.hint}", param="format", code="invalid_value")
        mapped.__cause__ = error
        return mapped


async def generate(dispatcher: Dispatcher, request: Request) -> Response:
    """Return or stream the reply to a prompt."""
    body = await read_body(request, GenerateRequest)
    entry = find_model(dispatcher.pool, body.model_name)
    continues = bool(body.raw) or entry.source.manifest.family == BASE.name
    _reject_unsupported(body, continues)
    dispatcher.pool.keep(entry, body.keep_alive_seconds())
    lines = ReplyLines(body.model_name or entry.name, generate_fields, thinking=body.think is not False)
    if not body.prompt:
        return await load(dispatcher, entry, body, lines)
    job: ReplyJob
    if continues:
        job = ContinuationJob(entry.name, body, dispatcher.limits)
    else:
        needs_check = bool(body.format)
        job = GenerationJob(
            entry.name, 1, lambda model: to_params(body, model, dispatcher.limits), needs_check=needs_check
        )
    return await respond(dispatcher, request, job, body, lines)


def _reject_unsupported(body: GenerateRequest, continues: bool) -> None:
    """Raise ApiError for a field that would change the reply and is not supported. `continues`: the prompt is a text
    to continue."""
    unsupported = _UNSUPPORTED | (_OF_CHATS if continues else {})
    for name, cure in unsupported.items():
        if getattr(body, name):
            raise ApiError(400, f"{name} is not supported: {cure}", param=name, code="unsupported_parameter")


def to_params(body: GenerateRequest, model: Model, limits: Limits) -> GenerationParams:
    """Convert a request to a chat of one message. Raises ApiError or RequestError for what is not supported or cannot
    be enforced."""
    system = [Message("system", body.system)] if body.system else []
    return GenerationParams.create(
        [*system, Message("user", body.prompt or "", pictures=to_pictures(body.images, "images"))],
        (),
        ToolChoice("auto"),
        body.reply_format,
        body.sampling(model),
        limits=limits,
        parallel=True,
        template_variables=body.template_variables(model),
    )


ENDPOINT = Endpoint(
    "POST",
    "/api/generate",
    generate,
    GenerateRequest,
    GenerateReply,
    stream=True,
    pictures=True,
    stream_type=NDJSON,
    error_format=error_body,
    error_model=OllamaError,
)
