"""The settings of the server, beside those of its models."""

import re
from dataclasses import dataclass
from typing import Literal

from runtime.errors import RequestError
from runtime.text import quoted
from runtime.toolbox import ToolSource
from runtime.tools import Tool

from .guard.api_keys import ApiKey
from .page.kiosk import Kiosk
from .pool.models_file import ModelsFile

KEEP_ALIVE_SECONDS = 125.0  # above what proxies keep an idle connection for: nginx 60 to 75, Go's 90, Caddy's 120

_HOST, _PORT = "127.0.0.1", 8000
_ROOT_PATH = re.compile(r"(?:[\w.~!$&'()*+,;=@-]+(?:/[\w.~!$&'()*+,;=@-]+)*)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What the server is started with; edge.toml has a key for each field.

    It binds `host` and `port`, or the Unix domain socket `uds`; a proxy passes it the requests below `root_path`, and
    `ssl_cert` and `ssl_key` are PEM files for TLS. A client sends one of the `keys`, if there are any. Its Host header
    is the server's own name, or one of `hosts`, such as "chat.example" or "*.lan"; a page of one of `origins` may send
    requests, too. The chat page's model may call `tools`; with a `kiosk`, that page is all there is. A connection is
    kept open for `keep_alive` seconds without a request. The log has lines of text or JSON.

    The Responses API stores up to `store_count` responses and conversations of `store_bytes` together, in the SQLite
    file `store` or in memory. The models of a `models_file` are replaced when it changes.
    """

    host: str = _HOST
    port: int = _PORT
    uds: str | None = None
    root_path: str = ""
    ssl_cert: str | None = None
    ssl_key: str | None = None
    keys: tuple[ApiKey, ...] = ()
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    tools: tuple[Tool | ToolSource, ...] = ()
    kiosk: Kiosk | None = None
    keep_alive: float = KEEP_ALIVE_SECONDS
    log_format: Literal["text", "json"] = "text"
    models_file: ModelsFile | None = None
    store: str | None = None
    store_count: int = 1_000
    store_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        """Normalize the root path: "/glm", or "" for none. Raises RequestError if it is not a path, and for a socket
        beside a host or a port."""
        if self.uds and (self.host, self.port) != (_HOST, _PORT):
            raise RequestError(
                "with a Unix domain socket, the server has no host and no port",
                hint="leave out `host` and `port`, or `uds`; a proxy can offer both",
            )
        root = self.root_path.strip("/")
        if not _ROOT_PATH.fullmatch(root):
            raise RequestError(f"the root path {quoted(self.root_path)} is not a path", hint="write it as /glm")
        object.__setattr__(self, "root_path", f"/{root}" if root else "")
