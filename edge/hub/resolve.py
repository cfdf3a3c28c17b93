"""A checkpoint by its name on the Hugging Face hub: fetched once, resumed where it broke off, kept in its cache."""

import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runtime.backends.remote import Remote
from runtime.checkpoint.checkpoint import Folder, open_folder
from runtime.device.choose import checkpoint_backend
from runtime.errors import CheckpointError
from runtime.system import network
from runtime.system.files import expand_user

from ..catalogue import find_entry
from .download import download_snapshot
from .errors import map_hub_error

_ENDPOINT = "https://huggingface.co"

# What a conversion reads. No code, no pickles.
_TEXT_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
          "chat_template.jinja", "README.md", "LICENSE*")  # fmt: skip
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")


def resolve_checkpoint(name: str, *, quiet: bool = False) -> Path:
    """The folder of that name, or else the download of the model of that name: zai-org/GLM-4-9B-0414, or just
    GLM-4-9B-0414; `quiet` draws no progress. Raises CheckpointError where it is neither, or cannot be fetched."""
    path = expand_user(name)
    if path.exists():
        return path
    if not (repository := _repository(name)):
        raise CheckpointError(
            f"there is no folder {name!r}", hint="name a checkpoint's folder, or a model of `edge models` to fetch"
        )
    return _download(repository, (*_TEXT_FILES, *_WEIGHTS), quiet=quiet)


def resolve_model(devices: Sequence[str], name: str) -> Folder:
    """The folder of that name, opened. Where there is none and one of the devices works on checkpoints, the model of
    that name, fetched; for a server its texts alone.

    Raises what `open_folder` does, CheckpointError where it cannot be fetched or has to be converted first, and
    DeviceError, before anything is fetched, where the engine is not installed.
    """
    path = expand_user(name)
    engines = {device: engine for device in devices if (engine := checkpoint_backend(device))}
    repository = "" if path.exists() else _repository(name)
    if engines and repository:
        able = [engine for engine in engines.values() if engine.devices()]
        if not able:
            for device, engine in engines.items():
                engine.refuse_missing(device)
        weights = () if all(engine is Remote for engine in able) else _WEIGHTS
        return open_folder(_download(repository, (*_TEXT_FILES, *weights)))
    if repository and find_entry(name):
        raise CheckpointError(
            f"there is no folder {name!r} here, and OpenVINO cannot run the hub's {repository} as it is",
            hint=f"`edge convert {repository} FOLDER` fetches and converts it; or run it with --device torch",
        )
    return open_folder(path)


def _repository(name: str) -> str:
    """The hub's name for it, "" where it cannot be one."""
    if entry := find_entry(name):
        return entry.repository
    return name if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else ""


def _download(repository: str, files: Sequence[str], *, quiet: bool = False) -> Path:
    """The folder with these files in the hub's cache. Raises CheckpointError."""
    endpoint = os.environ.get("HF_ENDPOINT", _ENDPOINT)
    try:
        network.split(endpoint)
    except ValueError as exc:
        raise CheckpointError(
            f"HF_ENDPOINT is {endpoint!r}, which is no URL of a hub: {exc}", hint=f"unset it, or write {_ENDPOINT}"
        ) from exc
    if find_spec("huggingface_hub") is None:
        raise CheckpointError(
            f"{repository} is fetched with huggingface-hub, which is not installed",
            hint='pip install "glm4-edge[convert]", or name a folder',
        )
    cache = "the cache"
    try:
        with _proxy_environment(endpoint):
            from huggingface_hub import constants

            cache = constants.HF_HUB_CACHE
            with _quiet_library(bars=not quiet and sys.stderr.isatty()):
                return download_snapshot(repository, files, _WEIGHTS if _WEIGHTS[0] in files else (), endpoint, cache)
    except Exception as exc:  # OSError, ValueError, ImportError, and those of whichever library it uses
        raise map_hub_error(exc, repository, endpoint, cache) from exc


@contextmanager
def _proxy_environment(endpoint: str) -> Iterator[None]:
    """For a hub on this machine, neither proxies nor certificates: the library takes both from the environment, and it
    fails over a SOCKS proxy that it cannot use, even where NO_PROXY has the hub."""
    parts = network.split(endpoint)
    changed: dict[str, str | None] = {}
    if network.is_loopback(parts.hostname or ""):
        changed = {"NO_PROXY": "*", "no_proxy": "*"}
        changed |= dict.fromkeys(network.CERTIFICATES if parts.scheme == "http" else ())
    elif network.proxy(endpoint) is None and find_spec("socksio") is None:
        names = [name for name in os.environ if name.lower().endswith("_proxy")]
        changed = dict.fromkeys(name for name in names if os.environ[name].startswith("socks"))
    before = {name: os.environ.get(name) for name in changed}
    try:
        _set_environment(changed)
        yield
    finally:
        _set_environment(before)


def _set_environment(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _quiet_library(*, bars: bool) -> Iterator[None]:
    """The library logs each attempt, and draws bars even where nobody looks."""
    utils: Any = import_module("huggingface_hub.utils")
    level, drew = utils.logging.get_verbosity(), not utils.are_progress_bars_disabled()
    utils.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a variable may forbid the one or the other
        if not bars:
            utils.disable_progress_bars()
        try:
            yield
        finally:
            utils.logging.set_verbosity(level)
            if drew:
                utils.enable_progress_bars()
