"""POST /v1/completions: the continuation of plain text, for base models."""

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from runtime.cancellation import Cancellation
from runtime.errors import UnsupportedGrammar
from runtime.grammar.grammar import Grammar
from runtime.messages import Event, Finish
from runtime.model import Model
from runtime.reply.reply import Reply

from ..body import read_body
from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.fields import Seed, StopText, TokenCount, merge_sampling, reply_count, stop_texts
from ..generation.reply_format import ChatFormat, FormatFields, ReplyFormat, own_format
from ..limits import Limits
from ..pool.dispatcher import Dispatcher, ReplyJob
from ..pool.event_stream import EventStream
from ..pool.workers import ReplyEvents
from .params import StreamOptions, reject_unsupported
from .text_stream import TextChunkStream, TextLogprobs, text_finish_reason
from .tokens import UsageReply


class CompletionRequest(FormatFields):
    """A request to continue one prompt, in which special tokens are plain text. `logprobs` 0 returns the
    log-probabilities of the chosen tokens; more alternatives are not supported. `response_format` is vLLM's."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    max_tokens: TokenCount | None = 16
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    seed: Seed | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    stream_options: StreamOptions | None = None
    response_format: ChatFormat | None = None

    @property
    def format(self) -> ReplyFormat | None:
        """The format of the continuation; None for plain text. Raises ApiError for two formats, or an unsupported
        one."""
        return self.reply_format(own_format(self.response_format, "response_format"))

    @property
    def text(self) -> str:
        """The prompt."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class CompletionChoice(BaseModel):
    """One of the continuations."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """The continuations of a prompt, and their usage together."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageReply


class CompletionJob(ReplyJob):
    """The continuations of a prompt."""

    def __init__(self, body: CompletionRequest, count: int, limits: Limits) -> None:
        super().__init__(body.model, count)
        self._body = body
        self._limits = limits
        self._format = body.format
        self.needs_check = self._format is not None

    @cached_property
    def _grammar(self) -> Grammar | None:
        return self._format.grammar(self._limits) if self._format else None

    def check(self, model: Model, cancellation: Cancellation) -> None:
        """Reject a grammar that the engine rejects or cannot compile in time."""
        if self._grammar is not None:
            model.backend.admit(self._grammar, cancellation)

    def start(self, model: Model, index: int) -> ReplyEvents:
        """Begin the continuation of that index, with a seed of its own."""
        sampling = merge_sampling(
            self._body,
            model.sampling,
            max_new_tokens=self._body.max_tokens,
            stop=stop_texts(self._body.stop),
            seed=None if self._body.seed is None else self._body.seed + index,
            logprobs=self._body.logprobs is not None,
        )
        return model.complete(self._body.text, sampling, answer=self._grammar)

    def map_error(self, error: BaseException) -> BaseException:
        """Name the field whose grammar the engine rejects."""
        if self._format is None or not isinstance(error, UnsupportedGrammar):
            return error
        mapped = ApiError(400, f"{error}; {error.hint}", param=self._format.param, code="invalid_value")
        mapped.__cause__ = error
        return mapped


async def create_completion(dispatcher: Dispatcher, request: Request) -> Response:
    """Return or stream the continuations of a prompt."""
    body = await read_body(request, CompletionRequest)
    reject_unsupported(body)
    if body.logprobs or (body.logprobs is not None and body.echo):
        cause = "the prompt's are not supported" if body.echo else "only those of the chosen tokens are supported"
        raise ApiError(400, f"logprobs: {cause}; send 0", param="logprobs", code="unsupported_parameter")
    entry = dispatcher.pool.find(body.model)
    count = reply_count(body.n, dispatcher.limits)
    job = CompletionJob(body, count, dispatcher.limits)
    replies = await dispatcher.start(request, job, stream=bool(body.stream))
    base: dict[str, Any] = {"id": f"cmpl-{uuid4().hex}", "created": int(time.time()), "model": entry.name}
    echo = body.text if body.echo else ""
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        return EventStream(replies, TextChunkStream(base, count, echo, include_usage))
    collected = await replies.collect(request)
    usage = UsageReply.of([event.usage for reply in collected for event in reply if isinstance(event, Finish)])
    logprobs = body.logprobs is not None
    choices = [_choice(index, events, echo, logprobs) for index, events in enumerate(collected)]
    completion = Completion(**base, choices=choices, usage=usage)
    return Response(completion.model_dump_json(), media_type="application/json")


def _choice(index: int, events: Sequence[Event], echo: str, has_logprobs: bool) -> CompletionChoice:
    reply = Reply.from_events(events)
    logprobs = TextLogprobs.of(reply.logprobs, 0) if has_logprobs else None
    reason = text_finish_reason(reply.finish_reason)
    return CompletionChoice(index=index, text=echo + reply.text, logprobs=logprobs, finish_reason=reason)


ENDPOINT = Endpoint("POST", "/v1/completions", create_completion, CompletionRequest, Completion, stream=True)
