"""POST /v1/completions: the continuation of plain text and of token ids, for base models and for programs that make
their prompts themselves."""

import time
from collections.abc import Generator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.cancellation import Cancellable, Cancellation
from runtime.errors import PromptTooLong, UnsupportedGrammar, UnsupportedSetting
from runtime.events import Event, Finish, Usage
from runtime.grammar.grammar import Grammar
from runtime.model import Model
from runtime.reply.reply import Reply

from ..endpoint import Endpoint
from ..errors import ApiError, context_overflow
from ..guard.body import read_body
from ..limits import Limits
from ..pool.dispatcher import Dispatcher, ReplyJob
from ..pool.event_stream import EventStream
from ..pool.workers import ReplyEvents
from .completion_request import CompletionRequest
from .text_stream import TextChunkStream, TextLogprobs, logprobs_of, sum_usage, text_finish_reason
from .tokenization import read_vocabulary
from .tokens import UsageReply

_FIELDS = {"prompt_logprobs": "echo", "top_logprobs": "logprobs"}  # settings by the fields that ask for them


class CompletionChoice(BaseModel):
    """One of the continuations. The ids are there where `return_token_ids` asks for them."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: Literal["stop", "length"]
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class Completion(BaseModel):
    """The continuations of all prompts, and their usage together."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageReply


class CompletionJob(ReplyJob):
    """The continuations of the prompts: `n` of the first one, `n` of the second, …"""

    def __init__(self, body: CompletionRequest, limits: Limits) -> None:
        self.per_prompt = body.choices_per_prompt(limits)
        super().__init__(body.model, self.per_prompt * len(body.prompts))
        self.prompt_ids: dict[int, Sequence[int]] = {}  # of the prompts begun, if the response has them
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
        body, number = self._body, index // self.per_prompt
        prompt = body.prompts[number]
        if body.counts_tokens or body.max_tokens == 0:
            self.prompt_ids[number] = self._ids(model, prompt)
        if body.max_tokens == 0 and not body.echoes_logprobs:
            return Cancellable(_nothing(len(self.prompt_ids[number])), Cancellation())
        return model.complete(
            prompt,
            body.sampling(model.sampling, index),
            answer=self._grammar,
            add_special_tokens=body.add_special_tokens is not False,
            stop_token_ids=body.stop_token_ids or (),
            ignore_eos=bool(body.ignore_eos),
        )

    def map_error(self, error: BaseException) -> BaseException:
        """Name the field whose grammar or setting the engine rejects, or that makes the prompt too long."""
        if isinstance(error, PromptTooLong):
            return context_overflow(error, "prompt")
        if isinstance(error, UnsupportedSetting):
            param, code = _FIELDS.get(error.setting, error.setting), "unsupported_parameter"
        elif self._format is not None and isinstance(error, UnsupportedGrammar):
            param, code = self._format.param, "invalid_value"
        else:
            return error
        mapped = ApiError(400, f"{error}; {error.hint}", param=param, code=code)
        mapped.__cause__ = error
        return mapped

    def _ids(self, model: Model, prompt: str | list[int]) -> Sequence[int]:
        if not isinstance(prompt, str):
            return prompt
        special = self._body.add_special_tokens is not False
        return model.backend.encode(model.completion_prompt(prompt, add_special_tokens=special))


def _nothing(prompt_tokens: int) -> Generator[Event, None, None]:
    yield Finish("length", Usage(prompt_tokens))


async def create_completion(dispatcher: Dispatcher, request: Request) -> Response:
    """Return or stream the continuations of the prompts."""
    body = await read_body(request, CompletionRequest)
    entry = dispatcher.pool.find(body.model)
    job = CompletionJob(body, dispatcher.limits)
    echoes = [_echo(body, prompt, entry.source.path) for prompt in body.prompts for _ in range(job.per_prompt)]
    replies = await dispatcher.start(request, job, stream=bool(body.stream))
    base: dict[str, Any] = {"id": f"cmpl-{uuid4().hex}", "created": int(time.time()), "model": entry.name}
    if body.stream:
        if body.echoes_logprobs:
            echoes = [""] * job.count  # the prompts come with their log-probabilities
        return EventStream(replies, TextChunkStream(base, body, echoes, job.prompt_ids, job.per_prompt))
    collected = await replies.collect(request)
    usage = sum_usage(
        [event.usage for events in collected for event in events if isinstance(event, Finish)], job.per_prompt
    )
    choices = [_choice(body, job, index, events, echoes[index]) for index, events in enumerate(collected)]
    completion = Completion(**base, choices=choices, usage=usage).model_dump()
    if not body.return_token_ids:
        for choice in completion["choices"]:
            del choice["token_ids"], choice["prompt_token_ids"]
    return JSONResponse(completion)


def _echo(body: CompletionRequest, prompt: str | list[int], folder: Path) -> str:
    """Return the text of a prompt that is echoed, else ""."""
    if not body.echo or isinstance(prompt, str):
        return prompt if body.echo and isinstance(prompt, str) else ""
    decoder = read_vocabulary(folder).decoder()
    return decoder.feed(prompt) + decoder.finish()


def _choice(
    body: CompletionRequest, job: CompletionJob, index: int, events: Sequence[Event], echo: str
) -> CompletionChoice:
    reply = Reply.from_events(events)
    tokens = [
        *reply.logprobs,
        *(event.stop_token for event in events if isinstance(event, Finish) and event.stop_token),
    ]
    choice = CompletionChoice(
        index=index, text=echo + reply.text, finish_reason=text_finish_reason(reply.finish_reason)
    )
    if body.logprobs is not None:
        first = bool(reply.prompt_logprobs)
        choice.logprobs = logprobs_of(body, (*reply.prompt_logprobs, *tokens), 0, first=first)
    if body.return_token_ids:
        choice.token_ids = [token.id for token in tokens if token.id is not None]
        choice.prompt_token_ids = list(job.prompt_ids[index // job.per_prompt])
    return choice


ENDPOINT = Endpoint("POST", "/v1/completions", create_completion, CompletionRequest, Completion, stream=True)
