"""Run the server: open the port, load the first model, serve until a signal."""

import asyncio
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Timer
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from runtime.cancellation import Cancellation
from runtime.messages import Message
from runtime.model import Model
from runtime.system.awake_time import awake_time
from runtime.system.files import expand_user
from runtime.system.native_effects import set_mmap_threshold
from runtime.version import VERSION

from .app import create_app
from .limits import Limits
from .page.kiosk import Kiosk
from .pool.auxiliary.auxiliary_pool import KINDS
from .pool.model_pool import ModelPool
from .pool.models_file import ModelsFile
from .pool.replacement import follow_models_file
from .settings import ServerSettings
from .start_check import require_startable
from .transport.connections import BACKLOG, http_protocol
from .transport.listener import listen
from .transport.ready import ReadyRecord

GRACE_SECONDS = 10  # in which replies may end after a signal
_EXIT_SECONDS = 3  # after those, in which engines may end; then the process exits
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))


def run(
    pool: ModelPool,
    settings: ServerSettings,
    *,
    report: Callable[[str], None] = print,
    on_ready: Callable[[ReadyRecord], None] | None = None,
) -> None:
    """Serve the models until SIGTERM or Ctrl-C. `report` receives the lines for the terminal; `on_ready` is called once
    requests are accepted. Raises EdgeError if the server cannot start."""
    require_startable(pool, settings)
    set_mmap_threshold()
    app = create_app(pool, settings)
    with listen(settings) as listener, app.state.toolbox:
        what = "is the kiosk" if settings.kiosk else "is the chat page, and its /v1 answers OpenAI's clients"
        exit_timer = Timer(GRACE_SECONDS + _EXIT_SECONDS, _exit)
        exit_timer.daemon = True
        try:
            server = _Server(uvicorn_config(app, pool.limits, settings), app.state.dispatcher.stop, exit_timer)
            if on_ready is not None:
                url, models = listener.url, (*pool.model_names, *pool.names.aliases)
                api = None if settings.kiosk else f"{url}/v1"
                server.on_ready = partial(on_ready, ReadyRecord(url, api, os.getpid(), models, VERSION, listener.uds))
            banner = f"{listener.address} {what}; Ctrl-C stops"
            prefill = partial(_prefill, app, settings.kiosk)
            serving = _serve(
                listener.socket, pool, server, prefill, banner=banner, report=report, models_file=settings.models_file
            )
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(serving)
        finally:
            exit_timer.cancel()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose time limits, such as those of replies and of waiting requests, do not run while the
    machine sleeps."""
    loop = asyncio.new_event_loop()
    loop.time = awake_time  # type: ignore[method-assign]
    return loop


async def _serve(
    listener: socket.socket,
    pool: ModelPool,
    server: "_Server",
    prefill: Callable[[Model], Awaitable[None]],
    *,
    banner: str,
    report: Callable[[str], None],
    models_file: ModelsFile | None,
) -> None:
    following = None
    try:
        for encoder in pool.encoders.entries.values():
            await pool.encoders.load(encoder)
            report(f"{encoder.name}, {KINDS[encoder.task]}, on {pool.encoders.device}")
        for speaker in pool.speech.entries.values():
            await pool.speech.load(speaker)
            report(f"{speaker.name}, {KINDS[speaker.task]}, on {pool.speech.device}")
        if pool.entries:
            first = pool.find(None)
            model = await pool.load(first)
            choice = model.choice
            report(
                f"{first.name}, {first.source.manifest.recipe}"
                + (f", on {choice.device}: {choice.reason}" if choice else "")
            )
            await prefill(model)
        report(banner)
        if models_file:
            following = asyncio.create_task(follow_models_file(pool, models_file, prefill))
        await server.serve(sockets=[listener])
    finally:
        if following is not None:
            following.cancel()
        pool.close()


async def _prefill(app: Starlette, kiosk: Kiosk | None, model: Model) -> None:
    """Read the beginning of the page's prompts, so that the first visitor does not wait for it. Raises RequestError if
    it does not fit the context."""
    if model.choice is None or "://" in model.choice.device:  # a server's own business
        return
    system = [Message("system", kiosk.system)] if kiosk and kiosk.system else []
    tools = app.state.toolbox.offered().by_name.values() if kiosk else ()
    cancellation = Cancellation()
    try:
        await asyncio.to_thread(model.prefill, system, tools, cancellation)
    finally:
        cancellation.cancel()


def uvicorn_config(app: Starlette, limits: Limits, settings: ServerSettings = ServerSettings()) -> uvicorn.Config:
    """Return uvicorn's configuration: HTTP/1.1 only, under the limits, without a log of its own."""
    return uvicorn.Config(
        app,
        http=http_protocol(limits, app.state.request_log),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=math.ceil(settings.keep_alive),
        forwarded_allow_ips="*" if settings.uds else None,  # a socket's clients have no address: it is a proxy's
        ssl_certfile=settings.ssl_cert and expand_user(settings.ssl_cert),
        ssl_keyfile=settings.ssl_key and expand_user(settings.ssl_key),
        backlog=BACKLOG,
    )


class _Server(uvicorn.Server):
    """A uvicorn server that ends all replies on a signal, and starts `exit_timer`, which exits the process.

    uvicorn raises a signal again after its shutdown, which would end the process by that signal. Here the process ends
    in order, with status 0.
    """

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None], exit_timer: Timer) -> None:
        super().__init__(config)
        self._stop = stop
        self._exit_timer = exit_timer
        self.on_ready: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept requests, and call `on_ready`."""
        await super().startup(sockets)
        if self.started and self.on_ready is not None:
            self.on_ready()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle the signals that end the server; SIGHUP unless it is ignored, as under nohup."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        hang_up = getattr(signal, "SIGHUP", None)
        more = () if hang_up is None or signal.getsignal(hang_up) == signal.SIG_IGN else (hang_up,)
        previous = {number: signal.signal(number, self.handle_exit) for number in (*_SIGNALS, *more)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the shutdown; a second Ctrl-C does not wait for open connections."""
        if self._exit_timer.ident is None:
            self._exit_timer.start()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all replies, then close the connections."""
        self._stop()
        await super().shutdown(sockets)


def _exit() -> None:
    """End the process and its engines at once, even while one is loading a large model."""
    import psutil  # type: ignore[import-untyped]

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    logging.shutdown()
    os._exit(0)
