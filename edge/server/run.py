"""Opens the port, loads the first model, answers until it is told to stop."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Timer
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from runtime.backends.backend import Options
from runtime.backends.remote import KEY
from runtime.device.choose import refuse_context
from runtime.errors import RequestError
from runtime.system.allocator import set_mmap_threshold
from runtime.system.files import expand_user
from runtime.tools import Tool

from .app import create_app
from .connections import BACKLOG, http_protocol
from .guard import is_local
from .limits import Limits
from .page.kiosk import Kiosk
from .pool.model_pool import ModelPool

GRACE_SECONDS = 10  # seconds in which replies may end once the server is told to stop
_EXIT_SECONDS = 3  # seconds after those in which engines may end; then the process does, whatever they do


def run(
    folders: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
    options: Options = Options(),
    api_key: str = "",
    origins: Sequence[str] = (),
    tools: Sequence[Tool] = (),
    kiosk: Kiosk | None = None,
    limits: Limits = Limits(),
    report: Callable[[str], None] = print,
) -> None:
    """Serves until SIGTERM or Ctrl-C. Raises EdgeError where it cannot begin."""
    if not api_key and not is_local(host):
        raise RequestError(
            f"whoever reaches {host} could use the model", hint=f"give an API key: --api-key-file FILE, or {KEY}"
        )
    if not 0 <= port < 2**16:
        raise RequestError(f"{port} is no port: it cannot be used", hint="choose one up to 65535")
    pool = ModelPool(folders, device=device, options=options, limits=limits)
    for entry in pool.entries.values():
        refuse_context(entry.folder.manifest, options)
    set_mmap_threshold()
    app = create_app(pool, host=host, api_key=api_key, origins=origins, tools=tools, kiosk=kiosk)
    with _listen(host, port) as listener:
        what = "is the kiosk" if kiosk else "is the chat page, and its /v1 answers OpenAI's clients"
        last = Timer(GRACE_SECONDS + _EXIT_SECONDS, _end)
        last.daemon = True
        try:
            asyncio.run(_serve(listener, pool, app, what, report, last=last))
        finally:
            last.cancel()


async def _serve(
    listener: socket.socket, pool: ModelPool, app: Starlette, what: str, say: Callable[[str], None], *, last: Timer
) -> None:
    try:
        first = pool.find(None)
        choice = (await pool.load(first)).choice
        host, port = listener.getsockname()[:2]
        say(
            f"{first.name}, {first.folder.manifest.recipe}"
            + (f", on {choice.device}: {choice.reason}" if choice else "")
        )
        say(f"http://{f'[{host}]' if ':' in host else host}:{port} {what}; Ctrl-C stops")
        server = _Server(uvicorn_config(app, pool.limits), app.state.dispatcher.stop, last)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.handle_exit, signal.SIGHUP, None)
        await server.serve(sockets=[listener])
    finally:
        pool.close()


def uvicorn_config(app: Starlette, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=http_protocol(limits),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=BACKLOG,
    )


class _Server(uvicorn.Server):
    """A uvicorn server that ends all replies on a signal, and then starts `last`, the timer that ends the process."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None], last: Timer) -> None:
        super().__init__(config)
        self._stop = stop
        self._last = last

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._last.ident is None:
            self._last.start()
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # heard: the program ends as it should, not by the signal

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop()
        await super().shutdown(sockets)


def _end() -> None:
    """Ends the process and its engines, even while one is loading a large model."""
    import psutil  # type: ignore[import-untyped]

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    logging.shutdown()
    os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio gives TCP_NODELAY to a socket that names TCP alone; without it a token waits 40 ms for an ACK.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as exc:
        raise RequestError(f"{host} is no address of this machine: {exc}", hint="take 127.0.0.1") from exc
    try:
        if sys.platform != "win32":  # there it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as exc:
        listener.close()
        reason = getattr(exc, "strerror", None) or exc
        raise RequestError(
            f"port {port} of {host} cannot be used: {reason}", hint="choose another with --port"
        ) from exc
    return listener


def read_api_key(path: str | None) -> str:
    """The API key: the file's text, or what the environment names. Raises RequestError where the file has none."""
    if path is None:
        key = os.environ.get(KEY, "").strip()
        if not key.isascii():
            raise RequestError(f"{KEY} is not ASCII", hint="choose a key of ASCII characters")
        return key
    try:
        key = expand_user(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise RequestError(f"{path} cannot be read: {exc}", hint="put the API key into it, on a line") from exc
    if not key or not key.isascii() or any(char.isspace() for char in key):
        raise RequestError(f"{path} holds no API key", hint="put one line of ASCII without blanks into it")
    return key
