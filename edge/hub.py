"""A checkpoint by its name on the Hugging Face hub: fetched once, resumed where it broke off, kept in its cache."""

import re
from pathlib import Path

from runtime.errors import CheckpointError

from .catalogue import find

# What a conversion reads. No code, no pickles.
_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json",
          "tokenizer_config.json", "tokenizer.model", "chat_template.jinja", "README.md", "LICENSE*")  # fmt: skip


def checkpoint_folder(name: str) -> Path:
    """The folder of that name, or else the download of the model of that name: zai-org/GLM-4-9B-0414, or just
    GLM-4-9B-0414. Raises CheckpointError where it is neither, or there is no network."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    entry = find(name)
    repository = entry.repository if entry else name
    if not entry and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise CheckpointError(
            f"there is no folder {name!r}", hint="name a checkpoint's folder, or a model of `edge models` to fetch"
        )
    return _fetch(repository)


def _fetch(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(repository, allow_patterns=list(_FILES)))
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
