"""The response to a request for a reply: a stream of lines, or the whole reply."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..pool.dispatcher import Dispatcher, ReplyJob
from ..pool.event_stream import EventStream
from ..pool.pool_entry import PoolEntry
from .reply import ReplyLines
from .request import ReplyRequest


async def respond(
    dispatcher: Dispatcher, request: Request, job: ReplyJob, body: ReplyRequest, lines: ReplyLines
) -> Response:
    """Begin the reply of a job, and return it as a stream or, with `stream` false, in one piece."""
    stream = body.stream is not False
    replies = await dispatcher.start(request, job, stream=stream)
    if stream:
        return EventStream(replies, lines)
    (events,) = await replies.collect(request)
    return JSONResponse(lines.whole(events))


async def load(dispatcher: Dispatcher, entry: PoolEntry, body: ReplyRequest, lines: ReplyLines) -> Response:
    """Load a model for a request that has no prompt; unload it if `keep_alive` is 0."""
    if body.keep_alive_seconds() == 0:
        return JSONResponse(lines.empty("unload"))
    await dispatcher.pool.load(entry)
    return JSONResponse(lines.empty("load"))
