"""Export of a family's `response_template` to a checkpoint's tokenizer_config.json, for other servers to parse with."""

import json
import os
from pathlib import Path

from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.files.small_files import read_json
from runtime.errors import CheckpointError
from runtime.folder.model_folder import MANIFEST
from runtime.prompt.families.response_template import response_template
from runtime.system.files import expand_user, write_atomically

_FILE, _KEY = "tokenizer_config.json", "response_template"


def export_template(checkpoint: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the template into tokenizer_config.json atomically, and return the file's path.

    The rest of the file stays as it was; the original is kept beside it, once, as tokenizer_config.json.orig.
    Raises CheckpointError for a model folder, for calls that are not JSON, for a file that has another template (unless
    `force`), and where the file cannot be written.
    """
    if (expand_user(checkpoint) / MANIFEST).is_file():
        raise CheckpointError(
            f"{str(checkpoint)!r} is a model folder, and its sealed files must not change",
            hint="pass the folder of the checkpoint that vLLM or transformers serves",
        )
    folder = Checkpoint.open(checkpoint)
    if "json" not in folder.family.call_syntaxes:
        raise CheckpointError(
            f"{folder.files.name()} writes its calls in tags, which a {_KEY} cannot describe",
            hint="vLLM parses them with --tool-call-parser glm45",
        )
    path = folder.path / _FILE
    config = read_json(path)
    wanted = response_template(folder.family, folder.manifest.stop_tokens)
    if config.get(_KEY) not in (None, wanted) and not force:
        raise CheckpointError(f"{path} has a {_KEY} already", hint="replace it with --force")
    if config.get(_KEY) == wanted:
        return path
    kept = path.with_name(f"{_FILE}.orig")
    text = json.dumps(config | {_KEY: wanted}, indent=2, ensure_ascii=False)
    try:
        if path.exists() and not os.path.lexists(kept):
            write_atomically(kept, path.read_bytes())
        write_atomically(path, f"{text}\n".encode())
    except OSError as exc:
        raise CheckpointError(f"{path} cannot be written: {exc.strerror}", hint="check its permissions") from exc
    return path
