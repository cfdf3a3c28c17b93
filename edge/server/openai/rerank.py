"""POST /v1/rerank: documents in the order in which they answer a query. The API is Cohere's and Jina's; OpenAI has
none."""

from typing import Annotated
from uuid import uuid4

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..endpoint import Endpoint
from ..generation.fields import RequestModel
from ..guard.body import read_body
from ..logs.request_record import CLIENT
from ..pool.dispatcher import Dispatcher, cancel_on_disconnect
from .tokens import UsageReply

MAX_DOCUMENTS = 1000  # of a request: Cohere's limit


class RerankDocument(RequestModel):
    """A document."""

    text: str


class RerankRequest(RequestModel):
    """A request for the `top_n` documents that answer the query best: all of them without it. With `return_documents`,
    the results have the documents, too."""

    model: str | None = None
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[str | RerankDocument], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool | None = None


class RerankResult(BaseModel):
    """A document by its index in the request, and its score from 0 to 1."""

    index: int
    relevance_score: float
    document: RerankDocument | None = None


class RerankReply(BaseModel):
    """The results, the best one first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: UsageReply


async def rerank(dispatcher: Dispatcher, request: Request) -> Response:
    """Return the documents that answer a query best."""
    body = await read_body(request, RerankRequest)
    entry = dispatcher.pool.find_encoder(body.model, "rerank")
    texts = [document if isinstance(document, str) else document.text for document in body.documents]
    work = dispatcher.pool.encoders.rerank(entry, body.query, texts, client=request.scope.get(CLIENT, ""))
    scores, tokens = await cancel_on_disconnect(request, work)
    dispatcher.metrics.tokens.labels(entry.name, "prompt").inc(tokens)
    order = sorted(range(len(texts)), key=lambda index: -scores[index])[: body.top_n]
    results = [
        RerankResult(
            index=index,
            relevance_score=scores[index],
            document=RerankDocument(text=texts[index]) if body.return_documents else None,
        )
        for index in order
    ]
    usage = UsageReply(prompt_tokens=tokens, completion_tokens=0, total_tokens=tokens)
    reply = RerankReply(id=f"rerank-{uuid4().hex}", model=entry.name, results=results, usage=usage)
    return JSONResponse(reply.model_dump(exclude_none=True))


ENDPOINTS = (
    Endpoint("POST", "/v1/rerank", rerank, RerankRequest, RerankReply),
    Endpoint("POST", "/rerank", rerank, RerankRequest, RerankReply, documented=False),
)
