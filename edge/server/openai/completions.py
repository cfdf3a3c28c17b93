"""Plain text in and out: POST /v1/completions for base models, /tokenize and /detokenize."""

import asyncio
import codecs
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.cancellation import Cancellation
from runtime.chat import Reply
from runtime.messages import Event, Finish, Logprobs, Text, TokenLogprob, Usage
from runtime.model import Model
from runtime.vocabulary import Vocabulary

from ..errors import ApiError
from ..pool.dispatcher import Dispatcher, read_body, sse, stream
from ..pool.workers import Indexed
from .chat_completions import StreamOptions, UsageReply, finite, reject_unsupported
from .params import RequestModel, SamplingFields, Seed, StopText, TokenCount, merge_sampling


class CompletionRequest(SamplingFields):
    """One prompt of text. Special tokens that are spelled in it are text. `logprobs` 0 asks for those of the tokens
    that are chosen; those of others are not told."""

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


class TextLogprobs(BaseModel):
    """`text_offset` is where each token begins in the text, in characters."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: None = None
    text_offset: list[int]

    @classmethod
    def of(cls, tokens: Sequence[TokenLogprob], start: int) -> "TextLogprobs":
        decoder, offsets = codecs.getincrementaldecoder("utf-8")("replace"), []
        for token in tokens:
            offsets.append(start)
            start += len(decoder.decode(token.bytes))
        logprobs = [finite(t.logprob) for t in tokens]
        return cls(tokens=[t.text for t in tokens], token_logprobs=logprobs, text_offset=offsets)


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageReply


class TokenizeRequest(RequestModel):
    """Special tokens that are spelled in `prompt` are text."""

    model: str | None = None
    prompt: str


class Tokenized(BaseModel):
    tokens: list[int]
    count: int


class DetokenizeRequest(RequestModel):
    model: str | None = None
    tokens: list[int]


class Detokenized(BaseModel):
    prompt: str


async def create_completion(dispatcher: Dispatcher, request: Request) -> Response:
    body = await read_body(request, CompletionRequest)
    reject_unsupported(body)
    logged = body.logprobs is not None
    if body.logprobs or (logged and body.echo):
        told = "those of the prompt are not told" if body.echo else "the engine tells that of the chosen token alone"
        raise ApiError(400, f"logprobs: {told}; send 0", param="logprobs", code="unsupported_parameter")
    entry = dispatcher.pool.find(body.model)
    count = body.n or 1
    if count > dispatcher.limits.replies_per_request:
        raise ApiError(
            400, f"n may be at most {dispatcher.limits.replies_per_request}", param="n", code="invalid_value"
        )
    prompt = body.prompt if isinstance(body.prompt, str) else body.prompt[0]
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []

    def write(model: Model, index: int, cancellation: Cancellation) -> Generator[Event, None, None]:
        seed = None if body.seed is None else body.seed + index
        if body.echo:
            yield Text(prompt)
        sampling = merge_sampling(body, model.sampling, body.max_tokens, stop, seed, logprobs=logged)
        with closing(model.complete(prompt, sampling, cancellation)) as events:
            yield from events

    served = await dispatcher.start(request, body.model, count, write)
    made: dict[str, Any] = {"id": f"cmpl-{uuid4().hex}", "created": int(time.time()), "model": entry.name}
    if body.stream:
        return _stream(served, made, bool(body.stream_options and body.stream_options.include_usage))
    replies = await served.collect(request)
    choices = [_choice(index, Reply.of(events), logged) for index, events in enumerate(replies)]
    usage = UsageReply.of([event.usage for reply in replies for event in reply if isinstance(event, Finish)])
    whole = Completion(**made, choices=choices, usage=usage)
    return Response(whole.model_dump_json(), media_type="application/json")


def _choice(index: int, said: Reply, logged: bool) -> CompletionChoice:
    logprobs = TextLogprobs.of(said.logprobs, 0) if logged else None
    return CompletionChoice(index=index, text=said.text, logprobs=logprobs, finish_reason=_word(said.finish_reason))


def _word(reason: str) -> Literal["stop", "length"]:
    return "length" if reason == "length" else "stop"


def _stream(served: Any, made: dict[str, Any], include_usage: bool) -> Response:
    made |= {"object": "text_completion"}
    usages: list[Usage] = []
    offsets: dict[int, int] = {}
    tokens: dict[int, Sequence[TokenLogprob]] = {}

    def chunk(index: int, text: str, reason: str | None = None) -> str:
        logprobs = None
        if index in tokens:
            logprobs = TextLogprobs.of(tokens.pop(index), offsets.get(index, 0)).model_dump()
        offsets[index] = offsets.get(index, 0) + len(text)
        return sse(made | {"choices": [{"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}]})

    def write(batch: Sequence[Indexed]) -> str:
        out = ""
        for index, event in batch:
            if isinstance(event, Logprobs):
                tokens[index] = event.tokens
            elif isinstance(event, Text):
                out += chunk(index, event.text)
            elif isinstance(event, Finish):
                usages.append(event.usage)
                out += chunk(index, "", _word(event.reason))
        return out

    def ending() -> str:
        last = sse(made | {"choices": [], "usage": UsageReply.of(usages).model_dump()}) if include_usage else ""
        return f"{last}data: [DONE]\n\n"

    return stream(served, write, "", ending)


async def tokenize(dispatcher: Dispatcher, request: Request) -> Response:
    body = await read_body(request, TokenizeRequest)
    model = await dispatcher.pool.load(dispatcher.pool.find(body.model))
    encode = getattr(model.backend, "encode", None)
    if encode is None:
        raise ApiError(400, "this engine shows no tokens", param="model", code="unsupported_parameter")
    ids = await asyncio.to_thread(encode, model.plain(body.prompt))
    return JSONResponse(Tokenized(tokens=ids, count=len(ids)).model_dump())


async def detokenize(dispatcher: Dispatcher, request: Request) -> Response:
    body = await read_body(request, DetokenizeRequest)
    folder = dispatcher.pool.find(body.model).folder
    text = (await asyncio.to_thread(_vocabulary, folder.path)).decoder()
    return JSONResponse(Detokenized(prompt=text.feed(body.tokens) + text.finish()).model_dump())


@lru_cache(maxsize=4)
def _vocabulary(folder: Path) -> Vocabulary:
    return Vocabulary.read(folder / "tokenizer.json")
