"""URLs of servers, and the cause of a failed request with its cure.

httpx, httpx2 and requests (on urllib3) wrap the cause in several layers of their own exceptions; which of them
huggingface_hub uses depends on its version. None is imported here: exceptions are recognized by the names of their
classes and by the operating system's errors among their causes.
"""

import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)
_CONNECTION_BROKEN = {"ConnectionResetError", "ConnectionAbortedError", "BrokenPipeError", "SSLEOFError", "ReadError",
           "WriteError",
           "RemoteProtocolError", "ProtocolError", "ChunkedEncodingError", "IncompleteRead"}  # fmt: skip
_INVALID_URL = {"UnsupportedProtocol", "MissingSchema", "InvalidSchema", "InvalidURL", "LocationParseError"}
TRY_AGAIN = "try again"  # the hint for a temporary failure


@dataclass(frozen=True, slots=True)
class NetworkFault:
    """The cause of a failed request, as the end of a sentence, and its cure, "" if that depends on the server."""

    cause: str
    hint: str = ""


def parse_server_url(url: str) -> SplitResult:
    """Return the parts of a server's URL. Raises ValueError that names what is wrong with it."""
    parts = urlsplit(url)  # ValueError for http://[::1
    if parts.scheme not in ("http", "https"):
        raise ValueError("it has to begin with http:// or https://")
    if not parts.hostname:
        raise ValueError("it has no host name")
    if parts.port == 0:  # ValueError above 65535
        raise ValueError("it has the port 0")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError("it contains a blank")
    try:
        parts.hostname.encode("idna")
    except UnicodeError as exc:
        raise ValueError("its host name is not valid") from exc
    return parts


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine: localhost, 127.0.0.0/8, ::1."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback or mapped.is_unspecified


def find_proxy(url: str) -> tuple[str, str] | None:
    """Return the proxy for a URL, and the variable that sets it ("" for a setting of the system); None for this machine
    and for hosts of NO_PROXY."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    found = getproxies()
    for scheme in (parts.scheme, "all"):
        if address := found.get(scheme):
            return address, _proxy_variable(scheme)
    return None


def _proxy_variable(scheme: str) -> str:
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    return next((name for name in names if os.environ.get(name)), "")


def _describe_proxy(proxy: tuple[str, str]) -> str:
    """Describe a proxy, without its user and password."""
    address, variable = proxy
    scheme, mark, rest = address.rpartition("://")
    return f"the proxy {scheme}{mark}{rest.rpartition('@')[2]}{f' of {variable}' if variable else ''}"


def explain(exc: BaseException, url: str) -> NetworkFault | None:
    """Return why a request to a URL failed; None if it was not the network."""
    chain = list(iterate_causes(exc))
    names = {kind.__name__ for each in chain for kind in type(each).__mro__}
    url = next((requested for each in chain if (requested := _request_url(each))), url)
    host = urlsplit(url).hostname or url
    proxy = find_proxy(url)
    peer = _describe_proxy(proxy) if proxy else _host_and_port(url)
    cure = f"correct or unset {proxy[1] or 'the proxy'}, or add {host} to NO_PROXY" if proxy else ""
    if unusable := _unsupported_proxy(chain, names, proxy):
        return unusable
    if stale := _bad_certificate_variable(chain):
        return stale
    for each in chain:
        if isinstance(each, socket.gaierror):
            return NetworkFault(f"the name {f'of {peer}' if proxy else host} cannot be looked up", cure)
        if isinstance(each, ssl.SSLCertVerificationError):
            ours = next(
                (f"{name} is {os.environ[name]}; " for name in CERTIFICATE_VARIABLES if os.environ.get(name)), ""
            )
            return NetworkFault(
                f"the certificate of {host} is not trusted ({each.verify_message})",
                f"{ours}where a proxy checks traffic, SSL_CERT_FILE has to name its certificate; is the clock right?",
            )
        if isinstance(each, ssl.SSLError) and not isinstance(each, ssl.SSLEOFError):
            return NetworkFault(
                f"{host} does not speak TLS as it should ({each.reason or each})", "check whether it is http://"
            )
    if names & _INVALID_URL:
        return NetworkFault(f"{url} is not a URL of a server", "write it as http://HOST:PORT")
    return _connection_fault(chain, names, peer, cure)


def _connection_fault(chain: list[BaseException], names: set[str], peer: str, cure: str) -> NetworkFault | None:
    """Return what happened to the connection itself."""
    codes = {each.errno for each in chain if isinstance(each, OSError) and not each.filename}
    if "ConnectionRefusedError" in names:
        return NetworkFault(f"{peer} refused the connection", cure)
    if codes & set(_UNREACHABLE):
        return NetworkFault(f"there is no way to {peer}", cure)
    if codes & {errno.EACCES, errno.EPERM}:
        return NetworkFault(f"this machine does not allow a connection to {peer}", "look into its firewall")
    if names & {"TimeoutError", "TimeoutException", "Timeout"}:
        return NetworkFault(f"{peer} did not answer in time", TRY_AGAIN)
    if names & _CONNECTION_BROKEN and "LocalProtocolError" not in names:
        return NetworkFault(f"{peer} closed the connection", TRY_AGAIN)
    if "TooManyRedirects" in names:
        return NetworkFault(f"{peer} redirects without end")
    if "ProxyError" in names:
        return NetworkFault(f"{peer} refuses ({_innermost_message(chain)})", cure)
    if names & {"NetworkError", "ConnectionError", "TransportError"}:
        return NetworkFault(f"{peer} cannot be reached ({_innermost_message(chain)})", cure)
    return None


def _unsupported_proxy(
    chain: list[BaseException], names: set[str], proxy: tuple[str, str] | None
) -> NetworkFault | None:
    """Return the fault of a proxy that the library does not support. It reads all of them, whatever the URL."""
    words = " ".join(str(each).lower() for each in chain)
    for scheme in ("http", "https", "all"):
        if not (address := getproxies().get(scheme)):
            continue
        kind, _, rest = address.rpartition("://")
        variable = _proxy_variable(scheme)
        peer, cure = _describe_proxy((address, variable)), f"unset {variable or 'it'}"
        if kind in ("socks5", "socks5h") and "socks" in words:
            return NetworkFault(
                f"{peer} is a SOCKS proxy, which needs another package", f"install the package socksio, or {cure}"
            )
        if kind not in ("", "http", "https") and "proxy" in words and ("scheme" in words or "socks" in words):
            return NetworkFault(f"{peer} is of an unsupported kind", f"write it as http://HOST:PORT, or {cure}")
        try:
            parse_server_url(f"http://{rest}")
        except ValueError as exc:
            if names & _INVALID_URL or (proxy and proxy[0] == address):
                return NetworkFault(f"{peer} is no URL of a proxy: {exc}", f"write it as http://HOST:PORT, or {cure}")
    return None


def _bad_certificate_variable(chain: list[BaseException]) -> NetworkFault | None:
    """A file of certificates that is named in the environment and cannot be read."""
    loading = any(
        (isinstance(each, OSError) and "TLS" in str(each) and "bundle" in str(each))
        or (isinstance(each, FileNotFoundError | PermissionError | IsADirectoryError) and not each.filename)
        or (isinstance(each, ssl.SSLError) and not isinstance(each, ssl.SSLCertVerificationError))
        for each in chain
    )
    for name in CERTIFICATE_VARIABLES if loading else ():
        if (value := os.environ.get(name)) and (why := _certificate_problem(value, folder=name == "SSL_CERT_DIR")):
            return NetworkFault(f"{name} is {value}, {why}", f"correct {name}, or unset it")
    return None


def _certificate_problem(path: str, *, folder: bool) -> str:
    if not os.path.exists(path):
        return "which does not exist"
    if folder or os.path.isdir(path):
        return "" if os.path.isdir(path) else "which is no folder"
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ValueError):
        return "which has no readable certificates"
    return ""


def iterate_causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, the outermost first. urllib3 and requests have some among their arguments."""
    waiting, seen = [exc], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        waiting += [other for other in inner if isinstance(other, BaseException)]


def _request_url(exc: BaseException) -> str:
    """Return the URL of the request if the exception has it: a redirect may have led elsewhere."""
    try:
        request: Any = getattr(exc, "request", None)
    except RuntimeError:  # httpx: it is not set yet
        return ""
    found = str(getattr(request, "url", "") or "")
    return found if urlsplit(found).hostname else ""


def _host_and_port(url: str) -> str:
    """Return HOST:PORT, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2] or url


def _innermost_message(chain: list[BaseException]) -> str:
    """Return the message of the innermost cause, on one line."""
    words = next((str(each) for each in reversed(chain) if str(each).strip()), type(chain[0]).__name__)
    return " ".join(words.split())[:200]
