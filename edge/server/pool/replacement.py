"""The replacement of models while requests are answered: what a change of the models file does."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from runtime.backends.choose import require_context
from runtime.errors import EdgeError, RequestError
from runtime.model import Model
from runtime.source import ModelSource, open_source

from ..errors import ApiError, server_stopping
from ..logs.log import LOG
from . import memory
from .auxiliary.auxiliary_pool import KINDS
from .model_pool import ModelPool, reads_pictures
from .models_file import ModelsFile
from .pool_entry import PoolEntry

Prepare = Callable[[Model], Awaitable[None]]
"""Makes a model that was loaded ready for its first request. Raises EdgeError if it cannot answer any."""
_POLL_SECONDS = 0.5
_RETIRE_SECONDS = 2.0  # without a request, after which a replaced model is closed
_INSTALL = "start the server again with these models, or run `edge service install`"


async def follow_models_file(pool: ModelPool, file: ModelsFile, prepare: Prepare | None = None) -> None:
    """Replace the pool's models as the file says, until cancelled; the first of them is prepared before it answers. A
    version of the file that cannot be served changes nothing; the log and the report beside the file have the
    reason."""
    version = ""
    tasks: set[asyncio.Task[None]] = set()
    while True:
        if (found := file.version()) not in ("", version):
            version = found
            error: EdgeError | None = None
            try:
                for retired in await replace_models(pool, await asyncio.to_thread(file.read), prepare):
                    tasks.add(task := asyncio.create_task(retire(pool, retired)))
                    task.add_done_callback(tasks.discard)
            except EdgeError as exc:
                error = exc
            except ApiError as exc:
                error = RequestError(str(exc), hint=_INSTALL)
            except Exception as exc:  # noqa: BLE001
                error = RequestError(f"the model cannot be loaded: {exc}", hint=_INSTALL)
            if error is not None:
                LOG.error("%s cannot be served: %s", file.path, error)
            with suppress(OSError):  # the server goes on without it
                folders = {name: str(path) for name, path in served_folders(pool).items()}
                file.report(version, folders, str(error or ""), error.hint if error else "")
        await asyncio.sleep(_POLL_SECONDS)


def served_folders(pool: ModelPool) -> dict[str, Path]:
    """Return the folders of a pool's models by name."""
    chat = {name: entry.source.path for name, entry in pool.entries.items()}
    return chat | {name: entry.source.path for name, entry in pool.auxiliary.items()}


async def replace_models(pool: ModelPool, wanted: Mapping[str, str], prepare: Prepare | None = None) -> list[PoolEntry]:
    """Replace each model whose folder differs from the one that is served. Return the entries that were replaced.
    Raises EdgeError for a model that cannot be loaded beside the others, and for one that is new."""
    served = served_folders(pool)
    if {*served} != {*wanted}:
        raise RequestError(
            f"the models are {', '.join(wanted)} now; this server has {', '.join(served)}", hint=_INSTALL
        )
    changed = {name: folder for name, folder in wanted.items() if Path(folder) != served[name]}
    sources = {name: await asyncio.to_thread(open_source, folder) for name, folder in changed.items()}
    first = next(iter(pool.entries), "")
    return [
        await replace_model(pool, name, source, prepare if name == first else None) for name, source in sources.items()
    ]


async def replace_model(pool: ModelPool, name: str, source: ModelSource, prepare: Prepare | None = None) -> PoolEntry:
    """Let the model of another folder, once it is loaded and prepared, answer all later requests for `name`, and return
    the old model's entry: it answers what was accepted before. Raises RequestError for a model that cannot take its
    place, and what loading and `prepare` raise: then nothing has changed."""
    old = _require_replaceable(pool, name, source)
    require_context(source.manifest, old.options)
    new = pool.new_entry(name, source, old.options)
    new.idle_time.seconds = old.idle_time.seconds
    async with pool.load_lock:
        if pool.stopped:
            raise server_stopping()
        if old.loaded:
            if await asyncio.to_thread(memory.memory_is_short, source, pool.device, new.options):
                raise RequestError(
                    f"the memory has no room for {source.manifest.source.name} beside the model it replaces",
                    hint="install the service again: the server then starts anew, with a gap",
                )
            await pool.fill(new)
            try:
                if prepare and new.model:
                    await prepare(new.model)
            except BaseException:
                await new.unload()
                raise
        pool.entries[name] = new
        pool.names.replace(name, source.manifest.source.name)
        pool.retired.append(old)
    LOG.info("%s is now the model of %s", name, source.path)
    return old


async def retire(pool: ModelPool, entry: PoolEntry) -> None:
    """Close a replaced model once no request has used it, or waited for it, for a while."""
    entry.idle_time.seconds = None
    quiet = 0.0
    while quiet < _RETIRE_SECONDS:
        await asyncio.sleep(_RETIRE_SECONDS / 4)
        quiet = quiet + _RETIRE_SECONDS / 4 if entry.idle else 0.0
    await entry.unload()
    pool.retired = [one for one in pool.retired if one is not entry]
    LOG.info("the replaced model of %s is closed", entry.name)


def _require_replaceable(pool: ModelPool, name: str, source: ModelSource) -> PoolEntry:
    """Return the entry of the model to replace. Raises RequestError unless the other one can take its place while the
    server runs."""
    hint = "install the service again with this model"
    old, model = pool.entries.get(name), source.manifest.source.name
    if old is None:
        raise RequestError(f"{name} is not a chat model of this server", hint=hint)
    if source.manifest.task != "chat":
        raise RequestError(f"{model} is {KINDS[source.manifest.task]}", hint=hint)
    if old.options.adapters or any(entry.parent for entry in pool.entries.values()):
        raise RequestError("a model with LoRA adapters cannot be replaced while it is served", hint=hint)
    if reads_pictures(source) and not reads_pictures(old.source):
        raise RequestError(f"{model} reads pictures, for which this server has no limits yet", hint=hint)
    return old
