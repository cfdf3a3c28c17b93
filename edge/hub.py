"""A checkpoint by its name on the Hugging Face hub: fetched once, resumed where it broke off, kept in its cache."""

import re
from collections.abc import Sequence
from pathlib import Path

from runtime.backends.remote import Remote
from runtime.checkpoint_folder import Folder, open_folder
from runtime.devices import of_checkpoints
from runtime.errors import CheckpointError
from runtime.files import expanded

from .catalogue import find

# What a conversion reads. No code, no pickles.
_TEXTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
          "chat_template.jinja", "README.md", "LICENSE*")  # fmt: skip
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")


def checkpoint_folder(name: str) -> Path:
    """The folder of that name, or else the download of the model of that name: zai-org/GLM-4-9B-0414, or just
    GLM-4-9B-0414. Raises CheckpointError where it is neither, or there is no network."""
    path = expanded(name)
    if path.exists():
        return path
    if not (repository := _repository(name)):
        raise CheckpointError(
            f"there is no folder {name!r}", hint="name a checkpoint's folder, or a model of `edge models` to fetch"
        )
    return _fetch(repository, (*_TEXTS, *_WEIGHTS))


def open_for(devices: Sequence[str], name: str) -> Folder:
    """The folder of that name, opened. Where there is none and one of the devices works on checkpoints, the model of
    that name, fetched; for a server its texts alone.

    Raises what `open_folder` does, CheckpointError where it cannot be fetched or has to be converted first, and
    DeviceError, before anything is fetched, where the engine is not installed.
    """
    path = expanded(name)
    engines = {device: engine for device in devices if (engine := of_checkpoints(device))}
    repository = "" if path.exists() else _repository(name)
    if engines and repository:
        able = [engine for engine in engines.values() if engine.devices()]
        if not able:
            for device, engine in engines.items():
                engine.refuse_missing(device)
        weights = () if all(engine is Remote for engine in able) else _WEIGHTS
        return open_folder(_fetch(repository, (*_TEXTS, *weights)))
    if repository and find(name):
        raise CheckpointError(
            f"there is no folder {name!r} here, and OpenVINO cannot run the hub's {repository} as it is",
            hint=f"`edge convert {repository} FOLDER` fetches and converts it; or run it with --device torch",
        )
    return open_folder(path)


def _repository(name: str) -> str:
    """The hub's name for it, "" where it cannot be one."""
    if entry := find(name):
        return entry.repository
    return name if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else ""


def _fetch(repository: str, files: Sequence[str]) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
    except ImportError as exc:
        raise CheckpointError(
            f"{repository} is fetched with huggingface-hub, which is not installed",
            hint='pip install "glm4-edge[convert]", or name a folder',
        ) from exc
    try:
        return Path(snapshot_download(repository, allow_patterns=list(files)))
    except GatedRepoError as exc:
        raise CheckpointError(
            f"{repository} asks you to accept its terms first", hint="do so on its page, then `hf auth login`"
        ) from exc
    except RepositoryNotFoundError as exc:
        raise CheckpointError(
            f"there is no folder {repository!r} here, and no such model on the hub", hint="`edge models` lists some"
        ) from exc
    except (HfHubHTTPError, OSError) as exc:
        raise CheckpointError(
            f"{repository} is not here, and cannot be fetched: the hub cannot be reached",
            hint="connect to the network and call again (it goes on where it stopped), or name a folder",
        ) from exc
