"""The origins of web pages that may send requests to the server."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from runtime.errors import RequestError
from runtime.text import quoted

from .host_names import HostNames

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+")


class Origins:
    """Origins such as https://app.example, in which `*` stands for any text, and `*` alone for all origins.

    Raises RequestError for anything else. `pattern` is a regular expression that matches each of them.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        parts = [".*" if origin == "*" else re.escape(_parse(origin)).replace(r"\*", "[^/]*") for origin in origins]
        self.pattern = "|".join(parts)
        self._compiled = re.compile(self.pattern)

    def __bool__(self) -> bool:
        return bool(self.pattern)

    def accept(self, origin: str) -> bool:
        """Return whether pages of an origin may send requests."""
        return bool(self.pattern) and self._compiled.fullmatch(origin) is not None


def is_own(origin: str, host: str, hosts: HostNames) -> bool:
    """Return whether an origin is the server's own page: its host and port are those of the Host header, or its host is
    one that the settings add. A proxy may send another Host header than it received."""
    try:
        found = urlsplit(origin)
        name = found.hostname
    except ValueError:  # such as http://[
        return False
    return found.netloc.lower() == host.lower() or (
        found.scheme in ("http", "https") and name is not None and hosts.is_added(name)
    )


def _parse(origin: str) -> str:
    found = origin.strip().lower().rstrip("/")
    if found != "null" and not _ORIGIN.fullmatch(found):
        raise RequestError(
            f"{quoted(origin)} is not an origin",
            hint="write scheme, host and port without a path, such as https://app.example or http://localhost:3000",
        )
    return found
