"""The tensors of a GLM-4 checkpoint under canonical names, whatever its format.

Canonical names are those of transformers' Glm4ForCausalLM. Where a format fuses q, k and v into one matrix, each is a
view of its rows. No code of a checkpoint is executed, and no pickle is read.
"""

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import CheckpointError, Notice
from ..system.files import name_in_errors
from ..system.out_of_memory import map_out_of_memory
from ..text import quoted
from .adapters.adapter import ModelAdapters
from .architecture import Architecture, Yarn, read_architecture
from .files.small_files import os_error_cure, os_error_reason
from .files.weight_file import TensorEntry, WeightFile
from .formats import CheckpointFiles, open_files
from .tensor import Dtype, Tensor
from .tensor_names import SAFETENSORS_NAMES, TensorNaming, naming_without_head

__all__ = ["Architecture", "CheckpointTensors", "Dtype", "Tensor", "Yarn"]

_Location = tuple[WeightFile, TensorEntry, slice | None]


class CheckpointTensors:
    """The open weights of a checkpoint; a context manager. `open` validates everything, so reading fails later only if
    a file becomes shorter or the disk fails, with a CheckpointError."""

    def __init__(
        self,
        path: Path,
        config: dict[str, Any],
        architecture: Architecture,
        files: Sequence[WeightFile],
        places: dict[str, _Location],
        *,
        adapters: ModelAdapters | None = None,
    ) -> None:
        self.path = path
        self.config = config
        self.architecture = architecture
        self._files = list(files)
        self._locations = places
        self.adapters = adapters or ModelAdapters()

    @classmethod
    def open(cls, path: str | Path, *, mapped: bool = True) -> Self:
        """Open a folder with config.json and safetensors files, or a GGUF file, and check everything except the
        weights' values. Raises CheckpointError.

        `mapped` weights are views of their files and take no memory of their own; but a file that becomes shorter then
        ends the process. Otherwise weights are read when they are used.
        """
        path = Path(path)
        with _map_errors(path):
            files = open_files(path)
            config = files.config()
        return cls.from_files(path, config, read_architecture(config), files, mapped=mapped)

    @classmethod
    def from_files(
        cls,
        path: Path,
        config: dict[str, Any],
        architecture: Architecture,
        files: CheckpointFiles,
        *,
        mapped: bool,
        adapters: ModelAdapters | None = None,
    ) -> Self:
        """Open the weights of a checkpoint whose config has been read; `adapters` are merged into its tensors.

        Raises CheckpointError.
        """
        with _map_errors(path):
            weight_files = files.weight_files(config, mapped=mapped)
            places = _locate_tensors(architecture, weight_files, files.naming(architecture))
            for file in weight_files:
                file.require_contiguous()
        opened = cls(path, config, architecture, weight_files, places, adapters=adapters)
        for note in opened.notes:
            warnings.warn(note, Notice, stacklevel=2)
        return opened

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names, in the decoder's order, those of a tower behind them."""
        return tuple(self._locations)

    @property
    def notes(self) -> tuple[str, ...]:
        """A line that names the tensors that are not the decoder's and are not used; () if there are none."""
        names = sorted(name for file in self._files for name in file.entries if _PASSED_OVER.fullmatch(name))
        kinds = sorted({re.sub(r"\.\d+\.", ".N.", name) for name in names} - _NO_WEIGHTS)
        if not kinds:
            return ()
        listed = f"{', '.join(map(quoted, kinds[:4]))}{' and others' if kinds[4:] else ''}"
        return (f"tensors that are not the decoder's were passed over: {listed}",)

    @property
    def nbytes(self) -> int:
        """Bytes of all files of weights."""
        return sum(file.size for file in self._files)

    def tensor(self, name: str) -> Tensor:
        """Return the tensor with this canonical name, adapters merged. Raises KeyError if there is none."""
        return self.adapters.merge(self._stored(name))

    def unmerged(self, name: str) -> Tensor:
        """Return the tensor as a file has it: the checkpoint's, or an adapter's in its place."""
        return self.adapters.replacements.get(name) or self._stored(name)

    def _stored(self, name: str) -> Tensor:
        file, entry, rows = self._locations[name]
        tensor = file.tensor(entry, name)
        return tensor if rows is None else tensor.rows(rows.start, rows.stop)

    def describe_location(self, name: str) -> str:
        """Return the tensor's name in its file, and the file, for messages."""
        if (place := self.adapters.places.get(name)) is not None:
            return place
        file, entry, _ = self._locations[name]
        return f"{quoted(entry.name)} in {file.path.name}"

    @property
    def quantized_types(self) -> tuple[str, ...]:
        """The formats of the matrices that are quantized already."""
        return tuple(sorted({self.unmerged(name).quantization for name in self._locations} - {""}))

    def fingerprint(self) -> str:
        """Return a sha256 over the config and the content of every weight file. Takes about a second per gigabyte."""
        config = self.path / "config.json"
        with name_in_errors(config):
            digest = sha256(config.read_bytes() if config.is_file() else json.dumps(self.config).encode())
        for file in self._files:
            digest.update(f"{file.path.name} {file.sha256()}\n".encode())
        return digest.hexdigest()

    def stat_fingerprint(self) -> str:
        """Return a sha256 over the config and every weight file's name, size and time of change. Takes no time."""
        digest = sha256(json.dumps(self.config).encode())
        for file in self._files:
            digest.update(f"{file.path.name} {file.size} {file.path.stat().st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def require_unchanged(self) -> None:
        """Raise CheckpointError if an unmapped file has been written to since it was opened."""
        for file in self._files:
            file.require_unchanged()

    def release(self) -> None:
        """Return mapped pages to the system. Views stay valid; they are read from disk again when they are used."""
        for file in self._files:
            file.release()

    def close(self) -> None:
        """Close the files. A mapping is closed with the last view of it."""
        self._files.clear()
        self._locations.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@contextmanager
def _map_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading the checkpoint into CheckpointError."""
    with map_out_of_memory(CheckpointError):
        try:
            yield
        except OSError as exc:
            raise CheckpointError(
                f"the checkpoint in {quoted(str(exc.filename or path), 200)} cannot be read: {os_error_reason(exc)}",
                hint=os_error_cure(exc),
            ) from exc


def safetensors_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors in the safetensors files of this architecture."""
    naming = SAFETENSORS_NAMES[architecture.name]
    stored = (naming(architecture, name, shape) for name, shape in architecture.all_shapes())
    return {place.name: place.shape for place in stored}


_NO_WEIGHTS = {  # RoPE's table in GLM-4's own files; it is recomputed in f32
    "transformer.rotary_pos_emb.inv_freq",
    "rope_freqs.weight",
}
# What trainers and older programs leave beside the decoder's weights, and transformers does not load: RoPE's table of
# each layer, the value head of PPO and reward training (TRL, LLaMA-Factory), Transformer Engine's state.
_PASSED_OVER = re.compile(
    r"(?:.+\.)?(?:rotary_emb|rotary_pos_emb)\.inv_freq|(?:v_head|value_head)\..+|.+\._extra_state"
)


def _locate_tensors(
    architecture: Architecture, files: Sequence[WeightFile], where: TensorNaming
) -> dict[str, _Location]:
    """Find every tensor of the architecture in the files. Raises CheckpointError for missing, misshapen or unknown
    ones."""
    found: dict[str, tuple[WeightFile, TensorEntry]] = {}
    for file in files:
        for entry in file.entries.values():
            if entry.name in found:
                raise CheckpointError(
                    f"{quoted(entry.name)} is both in {found[entry.name][0].path.name} and in {file.path.name}",
                    hint="remove the weight files that do not belong to this checkpoint",
                )
            found[entry.name] = (file, entry)
    if "model.embed_tokens.weight" not in found and "embed_tokens.weight" in found:
        where = naming_without_head(where)
    places: dict[str, _Location] = {}
    for name, shape in architecture.all_shapes():
        stored = where(architecture, name, shape)
        if stored.name not in found:
            raise CheckpointError(
                f"the tensor {stored.name!r} is missing",
                hint="save the model for text generation, not the decoder alone"
                if name == "lm_head.weight"
                else "the config and the weights do not belong together, or a file of them is missing",
            )
        file, entry = found[stored.name]
        _validate_entry(file, entry, stored.shape)
        places[name] = (file, entry, stored.rows)
    used = {entry.name for _, entry, _ in places.values()} | _NO_WEIGHTS
    if architecture.tied_embeddings:
        used.add(
            where(architecture, "lm_head.weight", ()).name
        )  # some files contain a copy, which transformers ignores
    used |= set(filter(_PASSED_OVER.fullmatch, found))
    if left_over := sorted(found.keys() - used):
        raise CheckpointError(
            f"{quoted(left_over[0])} does not belong to this decoder ({len(left_over)} such tensors)",
            hint="only plain GLM-4 text models are supported; `--adapter DIR` merges a LoRA adapter",
        )
    return places


def _validate_entry(file: WeightFile, entry: TensorEntry, shape: tuple[int, ...]) -> None:
    file.require_supported(entry)
    if entry.shape != shape:
        raise CheckpointError(
            f"{quoted(entry.name)} has the shape {list(entry.shape)[:8]}, but config.json requires {list(shape)}",
            hint="the config and the weights do not belong together",
        )
