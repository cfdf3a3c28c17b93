"""Checks before the server starts: what can never be served is refused at once, also by `edge service install`."""

from collections.abc import Sequence
from contextlib import ExitStack

from runtime.backends.backend import Options
from runtime.backends.choose import choose, require_context
from runtime.backends.remote.client import KEY
from runtime.errors import DeviceError, RequestError
from runtime.source import ModelSource, validate_adapters

from .app import create_app
from .guard.host_names import is_local
from .pool.model_pool import ModelPool
from .settings import ServerSettings
from .transport.listener import listen, require_certificate


def require_startable(pool: ModelPool, settings: ServerSettings) -> None:
    """Raise EdgeError for models and settings with which no server can start."""
    if not settings.keys and not settings.uds and not is_local(settings.host):
        raise RequestError(
            f"anyone who reaches {settings.host} could use the model",
            hint=f"set an API key: --api-key-file FILE, or {KEY}",
        )
    if settings.kiosk is not None and any(entry.parent for entry in pool.entries.values()):
        raise RequestError(
            "a kiosk serves the model itself, without adapters",
            hint="merge the adapter: `edge convert CHECKPOINT FOLDER --adapter DIR`",
        )
    for entry in pool.entries.values():
        require_context(entry.source.manifest, entry.options)
    require_certificate(settings)


def check_start(pool: ModelPool, settings: ServerSettings, *, replaces: bool) -> None:
    """Start all of the server but its models, and end it. One that `replaces` a running server of the same service
    cannot bind its address yet, nor have its memory. Raises EdgeError."""
    require_startable(pool, settings)
    for entry in pool.entries.values():
        validate_adapters(entry.source, entry.options.adapters)
        if not replaces or pool.device.upper() != "AUTO":
            _require_device((pool.device, *pool.fallback), entry.source, entry.options)
    app = create_app(pool, settings)
    try:
        with ExitStack() as started:
            if not replaces:
                started.enter_context(listen(settings))
            started.enter_context(app.state.toolbox)
    finally:
        app.state.response_store.close()


def _require_device(devices: Sequence[str], source: ModelSource, options: Options) -> None:
    for device in devices[:-1]:
        try:
            choose(device, source, options)
        except DeviceError:
            continue
        return
    choose(devices[-1], source, options)
