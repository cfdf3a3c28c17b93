"""The transport to an MCP server: its standard streams, streamable HTTP, or the older HTTP with server-sent events."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from runtime.errors import ToolError

from .config import ServerConfig
from .stderr_log import StderrLog

if TYPE_CHECKING:
    import httpx2

MAX_BODY = 16 * 2**20  # bytes; the SDK limits the events of a stream to 1 MiB each
Streams = tuple[Any, Any]  # the SDK's streams of received and of sent messages


class Transport:
    """The transport of one connection. `on_end` is called once when the server's messages end."""

    def __init__(self, config: ServerConfig, stderr: StderrLog, on_end: Callable[[], None]) -> None:
        self._config = config
        self._stderr = stderr
        self._on_end = on_end
        self.http_status: int | None = None  # the last one that is an error

    @asynccontextmanager
    async def streams(self) -> AsyncGenerator[Streams, None]:
        """Connect, and yield the streams. Raises whatever the SDK and the operating system raise."""
        open_streams = {"stdio": self._stdio, "http": self._http, "sse": self._sse}[self._config.transport]
        async with open_streams() as (received, sent):
            yield _WatchedStream(received, self._on_end), sent

    @asynccontextmanager
    async def _stdio(self) -> AsyncGenerator[Streams, None]:
        from mcp.client.stdio import StdioServerParameters, stdio_client

        command, *args = self._config.command
        parameters = StdioServerParameters(
            command=command,
            args=args,
            env=dict(self._config.env),
            cwd=self._config.cwd,
            encoding_error_handler="replace",
        )
        with self._stderr.pipe() as file:
            async with stdio_client(parameters, errlog=file) as streams:
                yield streams

    @asynccontextmanager
    async def _http(self) -> AsyncGenerator[Streams, None]:
        from mcp.client.streamable_http import streamable_http_client

        async with (
            self._http_client(headers=dict(self._config.headers)) as client,
            streamable_http_client(self._config.url, http_client=client) as streams,
        ):
            yield streams

    @asynccontextmanager
    async def _sse(self) -> AsyncGenerator[Streams, None]:
        from mcp.client.sse import sse_client

        headers = dict(self._config.headers)
        async with sse_client(self._config.url, headers, httpx_client_factory=self._http_client) as streams:
            yield streams

    def _http_client(
        self,
        headers: dict[str, str] | None = None,
        timeout: "httpx2.Timeout | None" = None,
        auth: "httpx2.Auth | None" = None,
    ) -> "httpx2.AsyncClient":
        import httpx2

        class BoundedBody(httpx2.AsyncByteStream):  # type: ignore[misc]  # mypy does not follow httpx2
            """The body of a response, up to a limit."""

            def __init__(self, body: Any) -> None:
                self._body = body

            async def __aiter__(self) -> AsyncIterator[bytes]:
                size = 0
                async for chunk in self._body:
                    size += len(chunk)
                    if size > MAX_BODY:
                        raise ToolError(
                            f"the MCP server {name} sent more than {MAX_BODY:,} bytes in one response",
                            hint="report it to the server's authors",
                        )
                    yield chunk

            async def aclose(self) -> None:
                await self._body.aclose()

        async def check(response: httpx2.Response) -> None:
            if response.is_error:
                self.http_status = response.status_code
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                response.stream = BoundedBody(response.stream)

        name = self._config.name
        return httpx2.AsyncClient(
            headers=headers,
            timeout=timeout or httpx2.Timeout(30.0, read=300.0),  # as the SDK's own: a stream may be idle
            auth=auth,
            event_hooks={"response": [check]},
        )


class _WatchedStream:
    """A stream of the SDK that reports its end."""

    def __init__(self, stream: Any, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    @property
    def last_context(self) -> Any:
        """The context variables of the sender, of which the SDK's HTTP streams keep the last."""
        return getattr(self._stream, "last_context", None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._on_end()
            raise

    async def receive(self) -> Any:
        """Return the next message."""
        return await self._stream.receive()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> Any:
        return await self._stream.__aexit__(*exc)
