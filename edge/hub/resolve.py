"""Resolve a model's name: a local folder, or else a checkpoint downloaded from a hub to that hub's cache."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from runtime.backends.choose import checkpoint_backend
from runtime.errors import CheckpointError
from runtime.progress import Progress
from runtime.source import ModelSource, open_source
from runtime.system import network
from runtime.system.files import expand_user
from runtime.system.installation import install_hint
from runtime.system.native_effects import environment_variables, quiet_hub

from ..catalogue import find_entry
from ..store.model_store import find_folder
from . import modelscope
from .download import Snapshot, download_snapshot
from .errors import map_hub_error
from .hubs import HUGGING_FACE, MODELSCOPE, Hub, get_hub
from .size import DownloadSize, measure_download

# The files that a conversion reads: no code, no pickles.
_TEXT_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
          "chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja", "special_tokens_map.json",
          "added_tokens.json", "preprocessor_config.json", "processor_config.json", "README.md",
          "LICENSE*")  # fmt: skip
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_GGUF_NAME = re.compile(r"(\w[\w.-]*/\w[\w.-]*):([\w.+-][\w./+-]*\.gguf)", re.IGNORECASE)  # REPO:FILE.gguf
_GGUF_PART = re.compile(r"-\d{5}-of-(\d{5})(?=\.gguf$)")
_Answer = TypeVar("_Answer")
_REVISION = re.compile(r"(?!.*\.\.)\w[\w./+-]*")


def resolve_checkpoint(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    hub: str = "huggingface",
    quiet: bool = False,
    report: Callable[[Progress], None] | None = None,
) -> Path:
    """Return the folder or file called `name`, or else download the checkpoint of the model called `name`.

    A model is named as on the hub, zai-org/GLM-4-9B-0414, or as in the catalogue, GLM-4-9B-0414; a GGUF file of one as
    REPOSITORY:FILE.gguf. A `revision` is a branch, tag or commit. `quiet` hides the progress bars; `report` is called
    with the bytes of each weight file as they arrive, and may raise to stop the download, which a later one resumes.
    Raises CheckpointError where there is neither, or the download fails.
    """
    path, source = expand_user(name), get_hub(hub)
    if revision is not None and not _REVISION.fullmatch(revision):
        raise CheckpointError(f"{revision!r} is not a revision", hint="pass a branch, a tag or a commit")
    if path.exists():
        if revision is not None:
            raise CheckpointError(f"{str(name)!r} is a local path, which has no revisions", hint="leave out --revision")
        return path
    if gguf := _GGUF_NAME.fullmatch(str(name)):
        return _download_gguf(gguf[1], gguf[2], source, revision, quiet=quiet, report=report)
    if not (repository := _repository(str(name), source)):
        raise CheckpointError(
            f"there is no folder {str(name)!r}",
            hint="pass a checkpoint's folder, or a model listed by `edge models`",
        )
    wanted = Snapshot(repository, (*_TEXT_FILES, *_WEIGHTS), _WEIGHTS, revision)
    return _download(wanted, source, quiet=quiet, report=report)


def download_size(name: str, *, revision: str | None = None, hub: str = "huggingface") -> DownloadSize:
    """Return the bytes of the checkpoint of the model called `name`, and those that a download would transfer. Connects
    to the hub. Raises CheckpointError."""
    source = get_hub(hub)
    wanted = Snapshot(_repository(name, source), (*_TEXT_FILES, *_WEIGHTS), _WEIGHTS, revision)
    return _with_hub(wanted, source, lambda endpoint, cache: measure_download(wanted, source, endpoint, cache))


def download_checkpoint(
    name: str, *, revision: str | None = None, hub: str = "huggingface", quiet: bool = False
) -> Path:
    """Download the checkpoint of the model called `name`, whatever folders are here, and return its folder. Raises
    CheckpointError."""
    source = get_hub(hub)
    wanted = Snapshot(_repository(name, source), (*_TEXT_FILES, *_WEIGHTS), _WEIGHTS, revision)
    return _download(wanted, source, quiet=quiet)


def download_texts(name: str, *, revision: str | None = None, hub: str = "huggingface") -> Path:
    """Download all but the weights of the model called `name`, and return their folder. Raises CheckpointError."""
    source = get_hub(hub)
    return _download(Snapshot(_repository(name, source), _TEXT_FILES, (), revision), source, quiet=True)


def resolve_model(devices: Sequence[str], name: str) -> ModelSource:
    """Open the model folder or checkpoint called `name`: a path, or a model of the store.

    If there is none and a device runs checkpoints directly, download the checkpoint (without weights when the server
    holds them).

    Raises the errors of `open_source`; CheckpointError where the download fails or the model must be converted first;
    and DeviceError, before any download, where the engine is not installed.
    """
    path = expand_user(name)
    engines = {device: engine for device in devices if (engine := checkpoint_backend(device))}
    repository = "" if path.exists() else _repository(name)
    if engines and repository:
        able = [engine for engine in engines.values() if engine.devices()]
        if not able:
            for device, engine in engines.items():
                engine.require_installed(device)
        weights = _WEIGHTS if any(engine.reads_weights for engine in able) else ()
        return open_source(_download(Snapshot(repository, (*_TEXT_FILES, *weights), weights), HUGGING_FACE))
    if not engines and (stored := find_folder(name)):
        return open_source(stored)
    if repository and find_entry(name):
        raise CheckpointError(
            f"there is no folder {name!r} here, and OpenVINO cannot run the hub's {repository} as it is",
            hint=f"`edge run {name}` downloads, converts and runs it, `edge convert {repository} FOLDER` puts it into "
            "a folder of yours; or run it with --device torch",
        )
    return open_source(name)


def _repository(name: str, hub: Hub = HUGGING_FACE) -> str:
    """Return the hub's name of the model called `name`; "" if it cannot be one."""
    if entry := find_entry(name):
        return entry.repository if hub is HUGGING_FACE else entry.modelscope
    return name if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) else ""


class _Reporter:
    """A callback that passes the progress of a download to `report`. `error` is the exception that `report` raised."""

    def __init__(self, report: Callable[[Progress], None] | None) -> None:
        self._report = report
        self.error: BaseException | None = None

    def __call__(self, file: str, done: int, size: int) -> None:
        if self._report is None:
            return
        try:
            self._report(Progress("download", file, done, size))
        except BaseException as exc:
            self.error = exc
            raise


def _download_gguf(
    repository: str,
    file: str,
    hub: Hub,
    revision: str | None,
    *,
    quiet: bool,
    report: Callable[[Progress], None] | None,
) -> Path:
    """Download a GGUF file, with all parts of a split one, and return its path. Raises CheckpointError."""
    pattern = _GGUF_PART.sub(r"-?????-of-\1", file)
    path = _download(Snapshot(repository, (pattern,), (pattern,), revision), hub, quiet=quiet, report=report) / file
    if not path.is_file():
        raise CheckpointError(
            f"{repository} has no file {file} on {hub.title}", hint=f"its page lists them: {hub.page(repository)}"
        )
    return path


def _download(
    wanted: Snapshot, hub: Hub, *, quiet: bool = False, report: Callable[[Progress], None] | None = None
) -> Path:
    """Download these files of a repository, and return their folder in the hub's cache. Raises CheckpointError."""
    reporter = _Reporter(report)

    def download(endpoint: str, cache: str) -> Path:
        if hub is MODELSCOPE:
            return modelscope.download_snapshot(wanted, endpoint, report=reporter)
        return download_snapshot(wanted, endpoint, cache, report=reporter)

    return _with_hub(wanted, hub, download, quiet=quiet, reporter=reporter)


def _with_hub(
    wanted: Snapshot,
    hub: Hub,
    ask: "Callable[[str, str], _Answer]",
    *,
    quiet: bool = True,
    reporter: _Reporter | None = None,
) -> _Answer:
    """Call `ask` with the hub's endpoint and its cache. Raises CheckpointError for the errors of the hub's library, and
    what the reporter raised."""
    endpoint = hub.endpoint()
    if find_spec("huggingface_hub") is None:
        raise CheckpointError(
            f"downloading {wanted.repository} needs huggingface-hub, which is not installed",
            hint=f"{install_hint('convert')}, or pass the path of a local folder",
        )
    cache = "the cache"
    try:
        with _proxy_environment(endpoint):
            from huggingface_hub import constants

            with quiet_hub(bars=not quiet and sys.stderr is not None and sys.stderr.isatty()):
                cache = str(modelscope.cache_folder()) if hub is MODELSCOPE else constants.HF_HUB_CACHE
                return ask(endpoint, cache)
    except Exception as exc:  # the errors of the hub's library, and of the HTTP library under it
        if reporter and exc is reporter.error:
            raise
        raise map_hub_error(exc, wanted.repository, endpoint, cache, hub=hub, revision=wanted.revision) from exc


def _proxy_environment(endpoint: str) -> AbstractContextManager[None]:
    """Adapt the proxy variables to the hub at `endpoint` while the library runs.

    A hub on this machine needs neither proxies nor certificates, and the library takes both from the environment. It
    also fails over a SOCKS proxy that it cannot use, even where NO_PROXY excludes the hub.
    """
    parts = network.parse_server_url(endpoint)
    changed: dict[str, str | None] = {}
    if network.is_loopback(parts.hostname or ""):
        changed = {"NO_PROXY": "*", "no_proxy": "*"}
        changed |= dict.fromkeys(network.CERTIFICATE_VARIABLES if parts.scheme == "http" else ())
    elif network.find_proxy(endpoint) is None and find_spec("socksio") is None:
        names = [name for name in os.environ if name.lower().endswith("_proxy")]
        changed = dict.fromkeys(name for name in names if os.environ[name].startswith("socks"))
    return environment_variables(changed)
