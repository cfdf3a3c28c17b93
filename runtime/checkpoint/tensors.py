"""A GLM-4 checkpoint: its tensors, lazily, under one set of names whatever the format.

The names are those of transformers' Glm4ForCausalLM. A checkpoint in the original format (ChatGLMModel), where q, k
and v are one matrix, is renamed and cut by rows into views; so is a GGUF. No code from a checkpoint ever runs; no
pickle is read.
"""

import json
import reprlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from ..errors import CheckpointError
from ..folder.model_folder import MANIFEST
from ..system.files import name_in_errors
from ..system.out_of_memory import map_out_of_memory
from ..text import quoted
from .architecture import DOWNLOAD_AGAIN, Architecture, Yarn, read_architecture, read_config, read_object
from .gguf_checkpoint import GgufCheckpoint
from .mapped_file import TensorEntry
from .safetensors_file import SafetensorsFile
from .small_files import os_error_cure, os_error_reason
from .tensor import Dtype, Tensor
from .tensor_names import SAFETENSORS_NAMES, TensorNaming

__all__ = ["Architecture", "CheckpointTensors", "Dtype", "Tensor", "Yarn"]

_INDEX = "model.safetensors.index.json"


class WeightFile(Protocol):
    """An open file of tensors, of whatever kind."""

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int: ...

    @property
    def entries(self) -> Mapping[str, TensorEntry]: ...

    def require_supported(self, entry: TensorEntry) -> None:
        """Raises CheckpointError where the tensor is of an unsupported type."""
        ...

    def require_contiguous(self) -> None:
        """Raises CheckpointError where bytes belong to no tensor."""
        ...

    def tensor(self, entry: TensorEntry, name: str) -> Tensor: ...

    def release(self) -> None: ...

    def require_unchanged(self) -> None: ...

    def sha256(self) -> str: ...


_Location = tuple[WeightFile, TensorEntry, slice | None]


class CheckpointTensors:
    """An open checkpoint; a context manager. Everything was checked by `open`: reading fails later only where the file
    becomes shorter or the disk fails, with a CheckpointError."""

    def __init__(
        self,
        path: Path,
        config: dict[str, Any],
        architecture: Architecture,
        files: Sequence[WeightFile],
        places: dict[str, _Location],
    ) -> None:
        self.path = path
        self.config = config
        self.architecture = architecture
        self._files = list(files)
        self._locations = places

    @classmethod
    @map_out_of_memory(CheckpointError)
    def open(cls, path: str | Path, *, mapped: bool = True) -> Self:
        """Opens a folder with config.json and safetensors files, or a GGUF file, and checks all that can be checked
        without reading the weights. Raises CheckpointError.

        Weights are views of their file where that is `mapped`, which takes no memory of their own; but a file that
        becomes shorter then ends the process. Else they are read when they are used.
        """
        path = Path(path)
        try:
            config, architecture, files, naming = (_read_gguf if path.is_file() else _read_folder)(path, mapped)
            places = _locate_tensors(architecture, files, naming)
            for file in files:
                file.require_contiguous()
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint in {quoted(str(error.filename or path), 200)} cannot be read: "
                f"{os_error_reason(error)}",
                hint=os_error_cure(error),
            ) from error
        return cls(path, config, architecture, files, places)

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names, in the order in which the decoder uses them."""
        return tuple(self._locations)

    @property
    def nbytes(self) -> int:
        """Bytes of all files with weights."""
        return sum(file.size for file in self._files)

    def tensor(self, name: str) -> Tensor:
        """The tensor of that canonical name. Raises KeyError for a name that `names` does not have."""
        file, entry, rows = self._locations[name]
        tensor = file.tensor(entry, name)
        return tensor if rows is None else tensor.rows(rows.start, rows.stop)

    def describe_location(self, name: str) -> str:
        """The tensor under the name that its file has for it, and the file, for messages."""
        file, entry, _ = self._locations[name]
        return f"{quoted(entry.name)} in {file.path.name}"

    @property
    def quantized_types(self) -> tuple[str, ...]:
        """The types of the matrices that are quantised already."""
        return tuple(sorted({self.tensor(name).gguf_type for name in self._locations} - {""}))

    def fingerprint(self) -> str:
        """sha256 over the config and the sha256 of every weight file. Reads all of them: about a second a gigabyte."""
        config = self.path / "config.json"
        with name_in_errors(config):
            digest = sha256(config.read_bytes() if config.is_file() else json.dumps(self.config).encode())
        for file in self._files:
            digest.update(f"{file.path.name} {file.sha256()}\n".encode())
        return digest.hexdigest()

    def stat_fingerprint(self) -> str:
        """What tells at once whether the checkpoint is the same: sha256 over its config and every weight file's name,
        size and time of change."""
        digest = sha256(json.dumps(self.config).encode())
        for file in self._files:
            digest.update(f"{file.path.name} {file.size} {file.path.stat().st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def require_unchanged(self) -> None:
        """Raises CheckpointError where a file that is read has been written to since it was opened."""
        for file in self._files:
            file.require_unchanged()

    def release(self) -> None:
        """Gives the pages of the mapped files back to the system; views stay valid and are read again when used."""
        for file in self._files:
            file.release()

    def close(self) -> None:
        """Lets go of the files. A mapping goes when the last view of it does."""
        self._files.clear()
        self._locations.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def safetensors_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that the safetensors files of such a checkpoint hold."""
    naming = SAFETENSORS_NAMES[architecture.name]
    stored = (naming(architecture, name, shape) for name, shape in architecture.shapes())
    return {place.name: place.shape for place in stored}


_NO_WEIGHTS = {  # a table that some files have; recomputed in f32
    "transformer.rotary_pos_emb.inv_freq",
    "rope_freqs.weight",
}


_Opened = tuple[dict[str, Any], Architecture, Sequence[WeightFile], TensorNaming]


def _read_folder(path: Path, mapped: bool) -> _Opened:
    config = read_config(path)
    architecture = read_architecture(config)
    files = [SafetensorsFile.open(file, mapped=mapped) for file in _safetensors_paths(path)]
    return config, architecture, files, SAFETENSORS_NAMES[architecture.name]


def _read_gguf(path: Path, mapped: bool) -> _Opened:
    gguf = GgufCheckpoint.open(path, mapped=mapped)
    config = gguf.config()
    return config, read_architecture(config), gguf.files, gguf.naming()


def _safetensors_paths(path: Path) -> list[Path]:
    """The weight files, in the order of transformers: one file, the index's shards, any single other file."""
    if (path / "model.safetensors").exists():
        return [path / "model.safetensors"]
    if (path / _INDEX).exists():
        return _shard_paths(path)
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return found
    if found:
        raise CheckpointError(
            f"{len(found)} .safetensors files, but no {_INDEX}", hint="download the index from where the shards came"
        )
    if (path / MANIFEST).is_file() or (path / "openvino_model.xml").is_file():
        raise CheckpointError(
            f"{str(path)!r} is a model folder: it is converted already",
            hint="`edge chat` runs it; for another recipe, give the checkpoint that it was made from",
        )
    if any(path.glob("*.bin")) or any(path.glob("*.pt")) or any(path.glob("*.pth")):
        raise CheckpointError(
            "the weights are a pickle, which can run code when it is opened; only safetensors are read",
            hint="download the safetensors version, or save it again with safe_serialization=True",
        )
    raise CheckpointError(f"no .safetensors file in {str(path)!r}", hint="download the checkpoint's weights")


def _shard_paths(path: Path) -> list[Path]:
    weight_map = read_object(path / _INDEX).get("weight_map")
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


def _locate_tensors(
    architecture: Architecture, files: Sequence[WeightFile], where: TensorNaming
) -> dict[str, _Location]:
    """Finds every tensor of the architecture in the files; refuses what is missing, misshapen, or left over."""
    found: dict[str, tuple[WeightFile, TensorEntry]] = {}
    for file in files:
        for entry in file.entries.values():
            if entry.name in found:
                raise CheckpointError(
                    f"{quoted(entry.name)} is both in {found[entry.name][0].path.name} and in {file.path.name}",
                    hint="remove the weight files that do not belong to this checkpoint",
                )
            found[entry.name] = (file, entry)
    places: dict[str, _Location] = {}
    for name, shape in architecture.shapes():
        stored = where(architecture, name, shape)
        if stored.name not in found:
            raise CheckpointError(
                f"the tensor {stored.name!r} is missing",
                hint="the config and the weights do not belong together, or a file of them is missing",
            )
        file, entry = found[stored.name]
        _validate_entry(file, entry, stored.shape)
        places[name] = (file, entry, stored.rows)
    used = {entry.name for _, entry, _ in places.values()} | _NO_WEIGHTS
    if architecture.tied_embeddings:
        used.add(where(architecture, "lm_head.weight", ()).name)  # some files keep a copy; transformers ignores it
    if left_over := sorted(found.keys() - used):
        raise CheckpointError(
            f"{quoted(left_over[0])} is no part of this decoder ({len(left_over)} such tensors)",
            hint="only plain GLM-4 text models convert: merge adapters, and do not mix checkpoints",
        )
    return places


def _validate_entry(file: WeightFile, entry: TensorEntry, shape: tuple[int, ...]) -> None:
    file.require_supported(entry)
    if entry.shape != shape:
        raise CheckpointError(
            f"{quoted(entry.name)} has the shape {list(entry.shape)[:8]}, but the config makes it {list(shape)}",
            hint="the config and the weights do not belong together",
        )
