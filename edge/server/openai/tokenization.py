"""POST /tokenize and /detokenize: a model's tokens for plain text, and back."""

import asyncio
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.vocabulary import Vocabulary

from ..endpoint import Endpoint
from ..generation.fields import RequestModel
from ..guard.body import read_body
from ..pool.dispatcher import Dispatcher


class TokenizeRequest(RequestModel):
    """A request for the tokens of `prompt`, in which special tokens are plain text. With `add_special_tokens` those
    that /v1/completions puts before a prompt are among them."""

    model: str | None = None
    prompt: str
    add_special_tokens: bool = False


class Tokenized(BaseModel):
    """The token ids of a text, and the context length of the model."""

    tokens: list[int]
    count: int
    max_model_len: int


class DetokenizeRequest(RequestModel):
    """A request for the text of token ids."""

    model: str | None = None
    tokens: list[int]


class Detokenized(BaseModel):
    """The text of token ids."""

    prompt: str


async def tokenize(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the token ids of a text."""
    body = await read_body(request, TokenizeRequest)
    async with dispatcher.pool.use(dispatcher.pool.find(body.model)) as model:
        prompt = model.completion_prompt(body.prompt, add_special_tokens=body.add_special_tokens)
        ids = await asyncio.to_thread(model.backend.encode, prompt)
        context = model.source.manifest.context_length
    return JSONResponse(Tokenized(tokens=ids, count=len(ids), max_model_len=context).model_dump())


async def detokenize(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the text of token ids."""
    body = await read_body(request, DetokenizeRequest)
    folder = dispatcher.pool.find(body.model).source
    text = (await asyncio.to_thread(read_vocabulary, folder.path)).decoder()
    return JSONResponse(Detokenized(prompt=text.feed(body.tokens) + text.finish()).model_dump())


@lru_cache(maxsize=4)
def read_vocabulary(folder: Path) -> Vocabulary:
    """Return the vocabulary of a model folder or checkpoint."""
    return Vocabulary.read(folder / "tokenizer.json")


ENDPOINTS = (
    Endpoint("POST", "/tokenize", tokenize, TokenizeRequest, Tokenized),
    Endpoint("POST", "/detokenize", detokenize, DetokenizeRequest, Detokenized),
)
