"""The lock of a pull: two processes never download and convert the same model for the store at once."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.errors import RequestError
from runtime.system.process_name import is_alive, process_name
from runtime.system.user_folders import make_private

from .model_name import ModelName
from .model_store import STORE_VARIABLE, store_root

_POLL_SECONDS = 0.5


@contextmanager
def pull_lock(name: ModelName, on_wait: Callable[[int], object]) -> Iterator[None]:
    """Hold the lock of a model. While a running process holds it, wait; `on_wait` is called once, with that process's
    id. The lock of a process that has ended is taken over.

    Raises RequestError if the store cannot be written to.
    """
    root = store_root()
    path = root / f".{name.name.replace('/', '--')}.pull"
    own, told = process_name(os.getpid()), False
    try:
        make_private(root)
        while not _acquire(path, own):
            holder = _holder(path)
            if not is_alive(holder):
                path.unlink(missing_ok=True)
                continue
            if not told:
                on_wait(int(holder.partition("-")[0]))
                told = True
            time.sleep(_POLL_SECONDS)
    except OSError as exc:
        raise RequestError(
            f"the store {root} cannot be written to: {exc.strerror}",
            hint=f"change its permissions, or set {STORE_VARIABLE} to another folder",
        ) from exc
    try:
        yield
    finally:
        with suppress(OSError):
            if _holder(path) == own:
                path.unlink()


def _acquire(path: Path, own: str) -> bool:
    """Create the lock with its holder's name, both or neither. Return False if there is one."""
    scratch = path.with_name(f"{path.name}-{own}")
    scratch.write_text(own, encoding="utf-8")
    try:
        os.link(scratch, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        return _acquire_by_rename(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return True


def _acquire_by_rename(scratch: Path, path: Path) -> bool:
    if path.exists():
        return False
    scratch.replace(path)
    return True


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
