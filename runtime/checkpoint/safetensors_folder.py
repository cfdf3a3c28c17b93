"""A checkpoint as Hugging Face publishes it: a folder with config.json, a tokenizer and safetensors files."""

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chat_templates import ChatTemplates
from ..errors import CheckpointError
from ..folder.model_folder import MANIFEST, is_foreign
from ..text import one_line
from .adapters.config import ADAPTER_WEIGHTS, reject_adapter_alone
from .architecture import Architecture, read_config
from .files.small_files import DOWNLOAD_AGAIN, read_json, read_licence
from .files.template_files import read_templates
from .quantized.config import read_quantization
from .tensor_names import SAFETENSORS_NAMES, TensorNaming
from .tokenizer import CheckpointTokenizer, read_tokenizer

if TYPE_CHECKING:
    from .files.weight_file import WeightFile

_INDEX = "model.safetensors.index.json"


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
        if snapshot := _cached_snapshot(self.path):
            raise CheckpointError(
                f"{str(self.path)!r} is a hub's cache entry; its checkpoint is in {snapshot.relative_to(self.path)}",
                hint=f"pass {snapshot}",
            )
        return read_config(self.path)

    def templates(self) -> ChatTemplates | None:
        """Read the chat templates and the special tokens that they refer to; None for a base model."""
        return read_templates(self.path)

    def tokenizer(self, vocabulary: int, end_ids: Sequence[int] = ()) -> CheckpointTokenizer:
        """Read the tokenizer of a model with `vocabulary` ids and these end tokens."""
        return read_tokenizer(self.path, vocabulary, end_ids)

    def generation(self) -> dict[str, Any]:
        """Read generation_config.json; {} if there is none."""
        return read_json(self.path / "generation_config.json")

    def image_processor(self) -> dict[str, Any]:
        """Read the settings of a vision model's image processor, which transformers 5 saves in processor_config.json;
        {} if there are none."""
        whole = read_json(self.path / "processor_config.json").get("image_processor")
        return whole if isinstance(whole, dict) else read_json(self.path / "preprocessor_config.json")

    def licence(self) -> str:
        """Read the licence's name from the header of the model card; a LICENSE file is only mentioned."""
        card, licensed = read_licence(self.path)
        header = card.decode(errors="replace").split("\n---", 1)[0]
        for key in ("license_name", "license"):
            if (found := re.search(rf"^{key}:\s*(\S.*?)\s*$", header, re.MULTILINE)) and found[1] != "other":
                return one_line(found[1].strip("\"'"), 200)
        return "see LICENSE" if licensed else ""

    def weight_files(self, config: Mapping[str, Any], *, mapped: bool) -> "Sequence[WeightFile]":
        """Open the safetensors files and check their headers; find the matrices of a checkpoint whose `config` says
        that it is quantised."""
        from .files.safetensors_file import SafetensorsFile

        files = [SafetensorsFile.open(file, mapped=mapped) for file in _safetensors_paths(self.path)]
        if (quantization := read_quantization(config)) is None:
            return files
        from .quantized.files import quantized_files

        return quantized_files(files, quantization)

    def naming(self, architecture: Architecture) -> TensorNaming:
        """Return the names of the architecture's own implementation."""
        return SAFETENSORS_NAMES[architecture.name]


def _cached_snapshot(path: Path) -> Path | None:
    """Return the newest snapshot in the root of an entry of a hub's cache; None for any other folder."""
    if (path / "config.json").exists() or not (path / "snapshots").is_dir():
        return None
    found = [file.parent for file in (path / "snapshots").glob("*/config.json")]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def _safetensors_paths(path: Path) -> list[Path]:
    """Find the weights as transformers does: one file, the index's shards, any other single file."""
    if (path / "model.safetensors").exists():
        return [path / "model.safetensors"]
    if (path / _INDEX).exists():
        return _shard_paths(path)
    listed = sorted(file for file in path.glob("*.safetensors") if file.name != ADAPTER_WEIGHTS)
    found = [file for file in listed if not file.name.startswith("._")]
    if len(found) == 1:
        return found
    if found:
        raise CheckpointError(
            f"{len(found)} .safetensors files, but no {_INDEX}", hint="download the index from the source of the shards"
        )
    reject_adapter_alone(path)
    if listed:
        raise CheckpointError(
            f"{listed[0].name} is not a weight file, but what macOS keeps beside one on other disks",
            hint="copy the weights themselves, without the files whose names begin with ._",
        )
    if is_foreign(path):
        raise CheckpointError(
            f"{str(path)!r} is an OpenVINO folder of another program, converted already",
            hint=f"`edge adopt {path}` checks it and makes it a model folder",
        )
    if (path / MANIFEST).is_file():
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
