"""A checkpoint as Hugging Face publishes it: a folder with config.json, a tokenizer and safetensors files."""

import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..folder.model_folder import MANIFEST
from ..text import one_line
from .adapter_config import ADAPTER_WEIGHTS, reject_adapter_alone
from .architecture import Architecture, read_config
from .small_files import DOWNLOAD_AGAIN, read_file, read_json, read_licence
from .tensor_names import SAFETENSORS_NAMES, TensorNaming
from .tokenizer import CheckpointTokenizer, read_tokenizer

if TYPE_CHECKING:
    from .safetensors_file import SafetensorsFile

_INDEX = "model.safetensors.index.json"
_MAX_TEMPLATE_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class SafetensorsFolder:
    """A folder whose files are read one by one: the weights may be downloaded after the others."""

    path: Path

    @classmethod
    def accepts(cls, path: Path) -> bool:
        """Return True: `config` explains what is missing."""
        return True

    @classmethod
    def open(cls, path: Path) -> "SafetensorsFolder":
        """Return the folder's files. Nothing is read yet."""
        return cls(path)

    def name(self) -> str:
        """Return the folder's name, or the model's in the hub's cache, whose folders are called by their commits."""
        path = self.path.resolve()
        if path.parent.name == "snapshots":
            return path.parents[1].name.removeprefix("models--").replace("--", "/")
        return path.name

    def config(self) -> dict[str, Any]:
        """Read config.json."""
        return read_config(self.path)

    def template(self) -> str | None:
        """Read the chat template from where transformers 5 or 4 keep it: of several, the default one; None for a base
        model."""
        text = read_file(self.path, "chat_template.jinja", _MAX_TEMPLATE_BYTES, within=True)
        try:
            if text is not None:
                return text.decode()
        except UnicodeDecodeError as exc:
            raise CheckpointError("chat_template.jinja is not UTF-8 text", hint="download it again") from exc
        found = read_json(self.path / "tokenizer_config.json").get("chat_template")
        if isinstance(found, list):
            by_name = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
            found = by_name.get("default")
        if found is not None and not isinstance(found, str):
            raise CheckpointError("tokenizer_config.json: chat_template is damaged", hint="download it again")
        return found

    def tokenizer(self, vocabulary: int, end_ids: Sequence[int] = ()) -> CheckpointTokenizer:
        """Read the tokenizer of a model with `vocabulary` ids and these end tokens."""
        return read_tokenizer(self.path, vocabulary, end_ids)

    def generation(self) -> dict[str, Any]:
        """Read generation_config.json; {} if there is none."""
        return read_json(self.path / "generation_config.json")

    def licence(self) -> str:
        """Read the licence's name from the header of the model card; a LICENSE file is only mentioned."""
        card, licensed = read_licence(self.path)
        header = card.decode(errors="replace").split("\n---", 1)[0]
        for key in ("license_name", "license"):
            if (found := re.search(rf"^{key}:\s*(\S.*?)\s*$", header, re.MULTILINE)) and found[1] != "other":
                return one_line(found[1].strip("\"'"), 200)
        return "see LICENSE" if licensed else ""

    def weight_files(self, *, mapped: bool) -> "Sequence[SafetensorsFile]":
        """Open the safetensors files and check their headers."""
        from .safetensors_file import SafetensorsFile

        return [SafetensorsFile.open(file, mapped=mapped) for file in _safetensors_paths(self.path)]

    def naming(self, architecture: Architecture) -> TensorNaming:
        """Return the names of the architecture's own implementation."""
        return SAFETENSORS_NAMES[architecture.name]


def _safetensors_paths(path: Path) -> list[Path]:
    """Find the weights as transformers does: one file, the index's shards, any other single file."""
    if (path / "model.safetensors").exists():
        return [path / "model.safetensors"]
    if (path / _INDEX).exists():
        return _shard_paths(path)
    found = sorted(file for file in path.glob("*.safetensors") if file.name != ADAPTER_WEIGHTS)
    if len(found) == 1:
        return found
    if found:
        raise CheckpointError(
            f"{len(found)} .safetensors files, but no {_INDEX}", hint="download the index from the source of the shards"
        )
    reject_adapter_alone(path)
    if (path / MANIFEST).is_file() or (path / "openvino_model.xml").is_file():
        raise CheckpointError(
            f"{str(path)!r} is a model folder: it is converted already",
            hint="`edge chat` runs it; for another recipe, pass the checkpoint that it was made from",
        )
    if any(path.glob("*.bin")) or any(path.glob("*.pt")) or any(path.glob("*.pth")):
        raise CheckpointError(
            "the weights are a pickle, which can run code when it is opened; only safetensors are read",
            hint="download the safetensors version, or save it again with safe_serialization=True",
        )
    raise CheckpointError(f"no .safetensors file in {str(path)!r}", hint="download the checkpoint's weights")


def _shard_paths(path: Path) -> list[Path]:
    weight_map = read_json(path / _INDEX, required=True).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{_INDEX} has no weight_map", hint=DOWNLOAD_AGAIN)
    for file in weight_map.values():
        # A path here could lead out of the folder. Printable also keeps NUL and lone surrogates from the file system.
        if (
            not isinstance(file, str)
            or not file.isprintable()
            or not file.endswith(".safetensors")
            or set(file) & set("/\\:")
        ):
            raise CheckpointError(
                f"{_INDEX} points to {reprlib.repr(file)}, which is not a .safetensors file beside it",
                hint=DOWNLOAD_AGAIN,
            )
    return [path / file for file in sorted(set(weight_map.values()))]
