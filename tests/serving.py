"""Real servers for tests: an OpenAI-compatible one that we did not write, and our own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

POOL_SETTINGS = ("adapters", "aliases", "device", "fallback", "idle_seconds", "options", "sampling")
SERVE = (sys.executable, "-m", "transformers.cli.transformers", "serve")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], log: Path, *, seconds: int = 600) -> Generator[str, None, None]:
    """Runs a server with --host and --port added, and gives its URL once /health answers; ended on leaving, with all
    that it started."""
    import httpx2

    url = f"http://127.0.0.1:{free_port()}"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(log.parent)}
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", url.rpartition(":")[2]],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # vLLM has children
        )
        try:
            for _ in range(seconds):
                assert server.poll() is None, log.read_text(errors="replace")[-2000:]
                try:
                    if httpx2.get(f"{url}/health", timeout=10).status_code == 200:
                        break
                except httpx2.TransportError:
                    pass
                time.sleep(1)
            yield url
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@contextmanager
def serving_ours(*folders: Path, **settings: Any) -> Generator[tuple[str, Any], None, None]:
    """Our own server in a thread of this process: its URL, and the Dispatcher behind it, whose `call` runs a function
    in the server's event loop. The settings are the pool's and those of ServerSettings; `api_key` is its only key."""
    import asyncio

    import uvicorn

    from edge.server.app import create_app
    from edge.server.guard.api_keys import ApiKey
    from edge.server.limits import Limits
    from edge.server.pool.model_pool import ModelPool
    from edge.server.run import uvicorn_config
    from edge.server.settings import ServerSettings
    from edge.server.transport.listener import listen

    limits = settings.pop("limits", Limits())
    if limits.grace_seconds == Limits().grace_seconds:  # on a busy machine a stream's errors keep their status
        limits = replace(limits, grace_seconds=60)
    pooled = {name: settings.pop(name) for name in POOL_SETTINGS if name in settings}
    pool = ModelPool(folders, **{"device": "CPU"} | pooled, limits=limits)
    if key := settings.pop("api_key", ""):
        settings["keys"] = (ApiKey(key, "1"),)
    table = {"endpoints": settings.pop("endpoints")} if "endpoints" in settings else {}
    served = ServerSettings(**settings)
    app = create_app(pool, served, **table)
    configured = uvicorn_config(app, pool.limits, served)

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            app.state.dispatcher.call = asyncio.get_running_loop().call_soon_threadsafe
            await super().startup(sockets)

    server = Server(configured)
    address = {} if served.uds else {"host": "127.0.0.1", "port": 0}
    with listen(replace(served, **address)) as listener, app.state.toolbox:
        thread = Thread(target=server.run, args=([listener.socket],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield listener.url, app.state.dispatcher
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def scripted(
    folder: Any,
    replies: Sequence[str],
    *,
    pause: float = 0.0,
    engine: Any = None,
    beside: Sequence[Path] = (),
    **settings: Any,
) -> Generator[tuple[str, Any, Any], None, None]:
    """Our own server on the fake engine, which gives these replies in turn: its URL, the Dispatcher, the engine. It
    waits `pause` seconds, which may be set later, before each character. `beside` are folders of further models."""
    from runtime.backends.echo import Echo
    from runtime.model import Model

    class Slow(engine or Echo):  # type: ignore[misc]
        pause = 0.0

        def generate(self, request: Any) -> Any:
            for delta in super().generate(request):
                time.sleep(self.pause)
                yield delta

    with serving_ours(folder.path, *beside, device="ECHO", **settings) as (url, dispatcher):
        (entry,) = dispatcher.pool.entries.values()
        slow = Slow(replies)
        slow.pause = pause
        entry.model = Model(folder, backend=slow)
        yield url, dispatcher, slow
