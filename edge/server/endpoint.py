"""An endpoint of the server: its path, its handler, and its entry in the OpenAPI document."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .errors import ErrorFormat, ErrorReply, report_error
from .logs.request_record import record_error
from .pool.dispatcher import Dispatcher
from .pool.event_stream import SSE

Handler = Callable[[Dispatcher, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and a path, their handler, and the models of the request and of the response, where these are JSON.

    `upload`: the request is a form with a file, and the fields of its model. `audio`: the file is a recording.
    `pictures`: the request has messages, which may have pictures where a model reads these. `stream`: the response may
    be a stream, of the media type `stream_type`; it may also have one of the `other_types`. `on_kiosk`: a kiosk has the
    endpoint, too. `documented`: the OpenAPI document lists it. `error_format`: the JSON of its errors, whose model is
    `error_model`; OpenAI's for None. `query_model`: the parameters of its query.
    """

    method: str
    path: str
    handler: Handler
    request_model: type[BaseModel] | None = None
    response_model: type[BaseModel] | None = None
    upload: bool = False
    audio: bool = False
    pictures: bool = False
    stream: bool = False
    stream_type: str = SSE
    other_types: tuple[str, ...] = ()
    on_kiosk: bool = False
    documented: bool = True
    error_format: ErrorFormat | None = None
    error_model: type[BaseModel] = ErrorReply
    query_model: type[BaseModel] | None = None

    def route(self, dispatcher: Dispatcher) -> Route:
        """Return the route, on which errors become responses."""

        async def respond(request: Request) -> Response:
            try:
                return await self.handler(dispatcher, request)
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception as exc:  # noqa: BLE001
                error = report_error(exc)
                record_error(request.scope, error.code)
                return error.response(self.error_format)

        return Route(self.path, respond, methods=[self.method])
