"""POST /v1/embeddings: OpenAI's API for the vectors of texts."""

import base64
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from runtime.retrieval.embedding_model import normalize

from ..endpoint import Endpoint
from ..errors import ApiError
from ..generation.fields import RequestModel
from ..guard.body import read_body
from ..logs.request_record import CLIENT
from ..pool.auxiliary.encoders import EncoderEntry
from ..pool.dispatcher import Dispatcher, cancel_on_disconnect
from .tokens import UsageReply

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_TEXTS = 2048  # of a request: OpenAI's limit
TokenIds = Annotated[list[int], Field(min_length=1)]


class EmbeddingRequest(RequestModel):
    """A request for the vectors of texts, or of lists of the model's token ids. `dimensions` keeps the first ones of a
    model that was trained for it. The vector is a list of numbers, or with `encoding_format` base64 the bytes of its
    float32 numbers."""

    model: str | None = None
    input: str | TokenIds | Annotated[list[str] | list[TokenIds], Field(min_length=1, max_length=MAX_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


class EmbeddingObject(BaseModel):
    """The vector of a text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(BaseModel):
    """The vectors of all texts, in their order. No token is generated."""

    object: Literal["list"] = "list"
    data: list[EmbeddingObject]
    model: str
    usage: UsageReply


async def create_embeddings(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the vectors of texts."""
    body = await read_body(request, EmbeddingRequest)
    entry = dispatcher.pool.find_encoder(body.model, "embedding")
    require_dimensions(entry, body.dimensions)
    inputs: list[Any] = body.input if isinstance(body.input, list) else [body.input]
    if isinstance(inputs[0], int):
        inputs = [inputs]
    as_base64 = body.encoding_format == "base64"

    def to_json(vector: "npt.NDArray[np.float32]") -> str:
        short = shorten(vector, body.dimensions)
        if as_base64:
            return json.dumps(base64.b64encode(short.astype("<f4").tobytes()).decode())
        return json.dumps(short.tolist(), separators=(",", ":"))

    work = dispatcher.pool.encoders.embed(entry, inputs, to_json, client=request.scope.get(CLIENT, ""))
    vectors, tokens = await cancel_on_disconnect(request, work)
    dispatcher.metrics.tokens.labels(entry.name, "prompt").inc(tokens)
    usage = UsageReply(prompt_tokens=tokens, completion_tokens=0, total_tokens=tokens)
    data = ",".join(
        f'{{"object":"embedding","index":{index},"embedding":{vector}}}' for index, vector in enumerate(vectors)
    )
    head = f'{{"object":"list","model":{json.dumps(entry.name)},"usage":{usage.model_dump_json()}'
    return Response(f'{head},"data":[{data}]}}', media_type="application/json")


def require_dimensions(entry: EncoderEntry, dimensions: int | None) -> None:
    """Raise ApiError unless the model's vectors have so many dimensions, or may be shortened to them."""
    manifest = entry.source.manifest
    whole = manifest.sizes.hidden if manifest.sizes else 0
    if dimensions is None or dimensions == whole:
        return
    if manifest.embedding is None or not manifest.embedding.matryoshka:
        message = f"dimensions: {entry.name} was not trained for shorter vectors than its own of {whole}; leave it out"
        raise ApiError(400, message, param="dimensions", code="unsupported_parameter")
    if dimensions > whole:
        message = f"dimensions: the vectors of {entry.name} have {whole}"
        raise ApiError(400, message, param="dimensions", code="invalid_value")


def shorten(vector: "npt.NDArray[np.float32]", dimensions: int | None) -> "npt.NDArray[np.float32]":
    """Return the first dimensions of a vector, with length 1; the vector itself if it has no more."""
    return vector if dimensions in (None, len(vector)) else normalize(vector[:dimensions])


ENDPOINT = Endpoint("POST", "/v1/embeddings", create_embeddings, EmbeddingRequest, EmbeddingList)
