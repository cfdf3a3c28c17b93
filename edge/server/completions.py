"""Plain text in and out: POST /v1/completions for base models, /tokenize and /detokenize."""

import asyncio
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

from runtime.chat import Reply
from runtime.messages import Event, Finish, Text, Usage
from runtime.model import Model
from runtime.vocabulary import Vocabulary

from .asked import Asking, Count, SamplingFields, Seed, Stop, sampling_of
from .chat import StreamOptions, UsageReply, not_here
from .counter import Counter, read, sse, stream
from .errors import ApiError
from .replies import Indexed


class CompletionRequest(SamplingFields):
    """One prompt of text. Special tokens that are spelled in it are text."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    max_tokens: Count | None = 16
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    seed: Seed | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    stream_options: StreamOptions | None = None


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageReply


class TokenizeRequest(Asking):
    """Special tokens that are spelled in `prompt` are text."""

    model: str | None = None
    prompt: str


class Tokens(BaseModel):
    tokens: list[int]
    count: int


class DetokenizeRequest(Asking):
    model: str | None = None
    tokens: list[int]


class Detokenized(BaseModel):
    prompt: str


async def completions(counter: Counter, request: Request) -> Response:
    body = await read(request, CompletionRequest)
    not_here(body)
    book = counter.shelf.find(body.model)
    count = body.n or 1
    if count > counter.limits.replies:
        raise ApiError(400, f"n may be at most {counter.limits.replies}", param="n", code="invalid_value")
    prompt = body.prompt if isinstance(body.prompt, str) else body.prompt[0]
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []

    def write(model: Model, index: int) -> Generator[Event, None, None]:
        seed = None if body.seed is None else body.seed + index
        if body.echo:
            yield Text(prompt)
        with closing(model.complete(prompt, sampling_of(body, model.sampling, body.max_tokens, stop, seed))) as events:
            yield from events

    served = await counter.serve(request, body.model, count, write)
    made: dict[str, Any] = {"id": f"cmpl-{uuid4().hex}", "created": int(time.time()), "model": book.name}
    if body.stream:
        return _stream(served, made, bool(body.stream_options and body.stream_options.include_usage))
    replies = await served.whole(request)
    choices = [_choice(index, Reply.of(events)) for index, events in enumerate(replies)]
    usage = UsageReply.of([event.usage for reply in replies for event in reply if isinstance(event, Finish)])
    whole = Completion(**made, choices=choices, usage=usage)
    return Response(whole.model_dump_json(), media_type="application/json")


def _choice(index: int, said: Reply) -> CompletionChoice:
    return CompletionChoice(index=index, text=said.text, finish_reason=_word(said.finish_reason))


def _word(reason: str) -> Literal["stop", "length"]:
    return "length" if reason == "length" else "stop"


def _stream(served: Any, made: dict[str, Any], include_usage: bool) -> Response:
    made |= {"object": "text_completion"}
    usages: list[Usage] = []

    def chunk(index: int, text: str, reason: str | None = None) -> str:
        return sse(made | {"choices": [{"index": index, "text": text, "logprobs": None, "finish_reason": reason}]})

    def write(batch: Sequence[Indexed]) -> str:
        out = ""
        for index, event in batch:
            if isinstance(event, Text):
                out += chunk(index, event.text)
            elif isinstance(event, Finish):
                usages.append(event.usage)
                out += chunk(index, "", _word(event.reason))
        return out

    def ending() -> str:
        last = sse(made | {"choices": [], "usage": UsageReply.of(usages).model_dump()}) if include_usage else ""
        return f"{last}data: [DONE]\n\n"

    return stream(served, write, "", ending)


async def tokenize(counter: Counter, request: Request) -> Response:
    body = await read(request, TokenizeRequest)
    model = await counter.shelf.model(counter.shelf.find(body.model))
    encode = getattr(model.backend, "encode", None)
    if encode is None:
        raise ApiError(400, "this engine shows no tokens", param="model", code="unsupported_parameter")
    ids = await asyncio.to_thread(encode, model.plain(body.prompt))
    return JSONResponse(Tokens(tokens=ids, count=len(ids)).model_dump())


async def detokenize(counter: Counter, request: Request) -> Response:
    body = await read(request, DetokenizeRequest)
    folder = counter.shelf.find(body.model).folder
    text = (await asyncio.to_thread(_vocabulary, folder.path)).decoder()
    return JSONResponse(Detokenized(prompt=text.feed(body.tokens) + text.finish()).model_dump())


@lru_cache(maxsize=4)
def _vocabulary(folder: Path) -> Vocabulary:
    return Vocabulary.read(folder / "tokenizer.json")
