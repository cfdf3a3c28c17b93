"""The socket that the server listens on, its URL, and the certificate of HTTPS."""

import os
import socket
import ssl
import stat
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from runtime.errors import RequestError
from runtime.system.files import expand_user

from ..settings import ServerSettings
from .connections import BACKLOG

_PROBE_SECONDS = 2.0  # for another server to accept a connection


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket, and the URL at which clients reach the server through it; `uds` is the path of a Unix domain
    socket, whose URL has the host localhost."""

    socket: socket.socket
    url: str
    uds: str | None = None

    @property
    def address(self) -> str:
        """The address in words."""
        return f"unix:{self.uds} ({self.url})" if self.uds else self.url


@contextmanager
def listen(settings: ServerSettings) -> Iterator[Listener]:
    """Bind the address of the settings, until the end of the block. Raises RequestError if it cannot be used."""
    scheme = "https" if settings.ssl_cert else "http"
    if settings.uds:
        path = expand_user(settings.uds).absolute()
        with closing(_bind_unix(path)) as bound:
            file = path.stat()
            try:
                yield Listener(bound, f"{scheme}://localhost{settings.root_path}", str(path))
            finally:
                with suppress(OSError):
                    if os.path.samestat(file, path.stat()):  # no other server's
                        path.unlink()
        return
    with closing(_bind_tcp(settings.host, settings.port)) as bound:
        yield Listener(bound, f"{scheme}://{_authority(bound)}{settings.root_path}")


def require_certificate(settings: ServerSettings) -> None:
    """Raise RequestError unless the files for HTTPS are a certificate and its key."""
    if not settings.ssl_cert:
        if settings.ssl_key:
            raise RequestError("--ssl-key has no certificate", hint="add --ssl-cert FILE")
        return
    cert, key = (str(expand_user(path)) for path in (settings.ssl_cert, settings.ssl_key or settings.ssl_cert))
    if "-----BEGIN CERTIFICATE-----" not in _read_pem(cert):
        raise RequestError(f"{cert} has no certificate in PEM format", hint="pass the certificate, with its chain")
    text = _read_pem(key)
    if "PRIVATE KEY-----" not in text:
        raise RequestError(f"{key} has no private key in PEM format", hint="pass the key: --ssl-key FILE")
    if "ENCRYPTED" in text:
        raise RequestError(
            f"the private key in {key} is encrypted", hint=f"decrypt it: openssl pkey -in {key} -out key.pem"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            what = f"the private key in {key} is not that of the certificate in {cert}"
            raise RequestError(what, hint="pass the key of this certificate: --ssl-key FILE") from exc
        raise RequestError(
            f"{cert} and {key} cannot be used: {exc.reason or exc}", hint="pass a certificate and its key in PEM format"
        ) from exc


def _read_pem(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as exc:
        raise RequestError(f"{path} cannot be read: {exc.strerror}", hint="pass the path of a PEM file") from exc


def _bind_unix(path: Path) -> socket.socket:
    if sys.platform == "win32":
        raise RequestError("Unix domain sockets are not supported on Windows", hint="use --host and --port")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path, bound.family)
        bound.bind(str(path))
        path.chmod(0o666)  # as anybody of this machine may connect to 127.0.0.1; the folder's mode narrows it
        bound.listen(BACKLOG)
    except OSError as exc:
        bound.close()
        raise RequestError(f"{path} cannot be bound: {exc.strerror or exc}", hint="choose another path") from exc
    except RequestError:
        bound.close()
        raise
    return bound


def _remove_stale(path: Path, family: int) -> None:
    """Remove the socket file of a server that has ended without doing so. Raises RequestError for any other file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise RequestError(f"{path} exists and is not a socket", hint="choose another path, or remove the file")
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass  # its backlog is full
    raise RequestError(f"another server listens on {path}", hint="choose another path, or stop that server")


def _bind_tcp(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio sets TCP_NODELAY only on a socket that names TCP; without it a token waits 40 ms for an ACK.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as exc:
        raise RequestError(f"{host} is not an address of this machine: {exc}", hint="use 127.0.0.1") from exc
    try:
        if sys.platform == "win32":  # where SO_REUSEADDR lets any program take the port over
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except (OSError, OverflowError) as exc:
        bound.close()
        reason = getattr(exc, "strerror", None) or exc
        raise RequestError(
            f"port {port} of {host} cannot be used: {reason}", hint="choose another with --port"
        ) from exc
    return bound


def _authority(bound: socket.socket) -> str:
    """Return the host and port of the server's URL; this machine's, if it listens on every address."""
    host, port = bound.getsockname()[:2]
    if ip_address(host.partition("%")[0]).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"{f'[{host}]' if ':' in host else host}:{port}"
