"""The host names under which the server accepts requests: its own, and those that its settings add."""

import ipaddress
import re
import socket
from collections.abc import Sequence

from runtime.errors import RequestError
from runtime.text import quoted

_LOCAL = ("localhost", "127.0.0.1", "::1")
_HEADER = re.compile(
    r"(?:\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[^\s\[\]@/?#\\:]+))(?::[0-9]{1,5})?"
)  # RFC 9110, 7.2
_PATTERN = re.compile(r"\*|(?:\*\.)?[\w-]+(?:\.[\w-]+)*")


class HostNames:
    """The names of a server that binds `host`, and `added` ones.

    An added name is a host name, an address, `*.lan` for every name that ends in .lan, or `*` for every name. Raises
    RequestError for anything else.
    """

    def __init__(self, host: str, added: Sequence[str] = ()) -> None:
        self._all_interfaces = is_address(host) and ipaddress.ip_address(host).is_unspecified
        own = socket.gethostname().lower() if self._all_interfaces else host.lower()
        self._own = {*_LOCAL, own, f"{own}.local"}
        patterns = [_parse(name) for name in added]
        self._all = "*" in patterns
        self._added = {pattern for pattern in patterns if not pattern.startswith("*")}
        self._suffixes = tuple(pattern[1:] for pattern in patterns if pattern.startswith("*."))

    def accept(self, header: str) -> bool:
        """Return whether a Host header names this server."""
        found = _HEADER.fullmatch(header)
        if found is None:
            return False
        name = (found["address"] or found["name"]).lower().removesuffix(".")
        if name in self._own or self._all or self.is_added(name):
            return True
        return self._all_interfaces and is_address(name)  # nobody can rebind an address

    def is_added(self, name: str) -> bool:
        """Return whether the settings add that name, other than by `*`."""
        return name in self._added or name.endswith(self._suffixes)


def is_address(name: str) -> bool:
    """Return whether a host is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """Return whether only this machine can reach a server that binds `host`."""
    return host in _LOCAL or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def _parse(name: str) -> str:
    found = name.strip().lower().removeprefix("[").removesuffix("]").removesuffix(".")
    if not is_address(found):
        try:
            encoded = found.encode("idna").decode() if not found.isascii() else found  # as browsers send it
        except UnicodeError:
            encoded = ""
        if not _PATTERN.fullmatch(encoded):
            raise RequestError(
                f"{quoted(name)} is not a host name",
                hint="write it without scheme, port and path: chat.example.com, or *.lan for all names in .lan",
            )
        return encoded
    return found
