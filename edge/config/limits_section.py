"""The section `[limits]` of `edge.toml`: the server's own limits, and their defaults."""

from dataclasses import dataclass
from typing import Annotated

from ..server.limits import Limits
from .setting import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSection:
    """What one client may cost the others."""

    timeout: Annotated[float, Setting("seconds of a request, from its arrival to its end", "SECONDS", least=0.1)] = (
        Limits().request_seconds
    )
    parallel: Annotated[
        int, Setting("replies of a model that are generated at once; one on an NPU", least=1, most=1024)
    ] = Limits().running
    queue: Annotated[int, Setting("further requests that wait for a model", least=0, most=100_000)] = Limits().waiting
    tool_timeout: Annotated[float, Setting("seconds of a tool of the page", "SECONDS", least=0.1)] = (
        Limits().tool_seconds
    )
    body_bytes: Annotated[int, Setting("bytes of a request's body", least=1024, most=2**30)] = Limits().body_bytes
    picture_body_bytes: Annotated[
        int, Setting("bytes of a chat's body where a model reads pictures", least=1024, most=2**30)
    ] = Limits().picture_body_bytes
    messages_per_request: Annotated[int, Setting("messages of a request", least=1)] = Limits().messages
    tools_per_request: Annotated[int, Setting("tools of a request", least=0)] = Limits().tools
    replies_per_request: Annotated[int, Setting("replies of a request, its `n`", least=1)] = (
        Limits().replies_per_request
    )
    replies_at_once: Annotated[int, Setting("replies of a request that are generated at once", least=1, most=1024)] = (
        Limits().replies_at_once
    )
    schema_bytes: Annotated[int, Setting("bytes of a JSON schema or another grammar", least=1)] = Limits().schema_bytes
    connections: Annotated[int, Setting("connections that are open at once", least=1)] = Limits().connections
    header_timeout: Annotated[
        float, Setting("seconds in which a client has to send a request's headers", "SECONDS", least=0.1)
    ] = Limits().header_seconds
    body_timeout: Annotated[
        float,
        Setting(
            "seconds in which a client has to send a request's body, or to read the response", "SECONDS", least=0.1
        ),
    ] = Limits().body_seconds
    grace: Annotated[
        float,
        Setting("seconds for which a streamed response's headers wait for an error with a status", "SECONDS", least=0),
    ] = Limits().grace_seconds
    heartbeat: Annotated[
        float, Setting("seconds after which a silent stream sends a heartbeat", "SECONDS", least=0.1)
    ] = Limits().heartbeat_seconds

    def limits(self) -> Limits:
        """Return the server's limits."""
        return Limits(
            running=self.parallel,
            waiting=self.queue,
            request_seconds=self.timeout,
            tool_seconds=self.tool_timeout,
            body_bytes=self.body_bytes,
            picture_body_bytes=self.picture_body_bytes,
            messages=self.messages_per_request,
            tools=self.tools_per_request,
            replies_per_request=self.replies_per_request,
            replies_at_once=self.replies_at_once,
            schema_bytes=self.schema_bytes,
            connections=self.connections,
            header_seconds=self.header_timeout,
            body_seconds=self.body_timeout,
            grace_seconds=self.grace,
            heartbeat_seconds=self.heartbeat,
        )
