"""An endpoint of the server: its path, its handler, and its entry in the OpenAPI document."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .errors import ErrorFormat, report_error
from .log import LOG
from .pool.dispatcher import Dispatcher

Handler = Callable[[Dispatcher, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and a path, their handler, and the models of the request and of the response, where these are JSON.

    `stream`: the response may be server-sent events. `on_kiosk`: a kiosk has the endpoint, too. `documented`: the
    OpenAPI document lists it. `error_format`: the JSON of its errors, OpenAI's for None.
    """

    method: str
    path: str
    handler: Handler
    request_model: type[BaseModel] | None = None
    response_model: type[BaseModel] | None = None
    stream: bool = False
    on_kiosk: bool = False
    documented: bool = True
    error_format: ErrorFormat | None = None

    def route(self, dispatcher: Dispatcher) -> Route:
        """Return the route, on which errors become responses, and requests are counted and logged: their path, status
        and time, never their text."""

        async def respond(request: Request) -> Response:
            start = time.perf_counter()
            try:
                response = await self.handler(dispatcher, request)
            except ClientDisconnect:
                response = Response(status_code=499)
            except Exception as exc:  # noqa: BLE001
                response = report_error(exc).response(self.error_format)
            status, seconds = response.status_code, time.perf_counter() - start
            dispatcher.metrics.requests.labels(self.path, str(status)).inc()
            LOG.info("%s %s %d %.0f ms", request.method, self.path, status, seconds * 1e3)
            return response

        return Route(self.path, respond, methods=[self.method])
