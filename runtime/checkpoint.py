"""A GLM-4 checkpoint folder: its tensors, lazily, under one set of names whatever the format.

The names are those of transformers' Glm4ForCausalLM. A checkpoint in the original format (ChatGLMModel), where q, k
and v are one matrix, is renamed and cut by rows into views. No code from a checkpoint ever runs; no pickle is read.
"""

import reprlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from .architecture import DOWNLOAD_AGAIN, Architecture, Yarn, read_architecture, read_config, read_object
from .errors import CheckpointError
from .safetensors_file import Entry, SafetensorsFile

__all__ = ["Architecture", "Checkpoint", "Dtype", "Tensor", "Yarn"]

Dtype = Literal["bf16", "f16", "f32"]
_DTYPES: dict[str, tuple[Dtype, npt.DTypeLike]] = {  # numpy has no bf16: its bits are handed out as uint16
    "BF16": ("bf16", np.uint16),
    "F16": ("f16", np.float16),
    "F32": ("f32", np.float32),
}
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor under its canonical name. `data` is a view of the mapped file; bf16 comes as its bits, in uint16."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    data: npt.NDArray[Any]

    def f32(self) -> npt.NDArray[np.float32]:
        """The values as a new float32 array. Exact: bf16 is the upper half of a float32."""
        if self.dtype == "bf16":
            return (self.data.astype(np.uint32) << 16).view(np.float32)
        return self.data.astype(np.float32)

    def rows(self, first: int, end: int) -> "Tensor":
        """Rows `first` to `end` (not included) as a view."""
        data = self.data[first:end]
        return replace(self, shape=data.shape, data=data)


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where a canonical tensor lies: the file's tensor and its shape, and the rows of it (None: all)."""

    name: str
    shape: tuple[int, ...]
    rows: slice | None = None


class Checkpoint:
    """An open checkpoint folder; a context manager. Everything was checked by `open`, so reading cannot fail later."""

    def __init__(
        self,
        path: Path,
        config: dict[str, Any],
        architecture: Architecture,
        files: list[SafetensorsFile],
        places: dict[str, tuple[SafetensorsFile, Entry, slice | None]],
    ) -> None:
        self.path = path
        self.config = config
        self.architecture = architecture
        self._files = files
        self._places = places

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Opens a folder with config.json and safetensors files, and checks all that can be checked without reading
        the weights. Raises CheckpointError."""
        path = Path(path)
        try:
            config = read_config(path)
            architecture = read_architecture(config)
            files = [SafetensorsFile.open(file) for file in _weight_files(path)]
            places = _places(architecture, files)
        except OSError as error:
            what = error.strerror or type(error).__name__
            raise CheckpointError(
                f"the checkpoint in {str(path)!r} cannot be read: {what}", hint="check the path and its permissions"
            ) from error
        return cls(path, config, architecture, files, places)

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names, in the order in which the decoder uses them."""
        return tuple(self._places)

    @property
    def nbytes(self) -> int:
        """Bytes of all files with weights."""
        return sum(file.size for file in self._files)

    def tensor(self, name: str) -> Tensor:
        """The tensor of that canonical name. Raises KeyError for a name that `names` does not have."""
        file, entry, rows = self._places[name]
        dtype, view = _DTYPES[entry.dtype]
        data = file.view(entry, view)
        if rows is not None:
            data = data[rows]
        return Tensor(name, data.shape, dtype, data)

    def fingerprint(self) -> str:
        """sha256 over config.json and the sha256 of every weight file. Reads all of them: about a second a gigabyte."""
        digest = sha256((self.path / "config.json").read_bytes())
        for file in self._files:
            digest.update(f"{file.path.name} {file.sha256()}\n".encode())
        return digest.hexdigest()

    def stamp(self) -> str:
        """What tells at once whether the checkpoint is the same: sha256 over config.json and every weight file's name,
        size and time of change."""
        digest = sha256((self.path / "config.json").read_bytes())
        for file in self._files:
            digest.update(f"{file.path.name} {file.size} {file.path.stat().st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def release(self) -> None:
        """Gives the pages of the mapped files back to the system; views stay valid and are read again when used."""
        for file in self._files:
            file.release()

    def close(self) -> None:
        """Lets go of the files. A mapping goes when the last view of it does."""
        self._files.clear()
        self._places.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def stored_tensors(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that the files of such a checkpoint hold."""
    stored = (_STORED[architecture.name](architecture, name, shape) for name, shape in architecture.shapes())
    return {place.name: place.shape for place in stored}


def _under_the_same_name(architecture: Architecture, name: str, shape: tuple[int, ...]) -> _Stored:
    return _Stored(name, shape)


_CHATGLM_NAMES = {  # whole names, and stems within a layer
    "model.embed_tokens.weight": "transformer.embedding.word_embeddings.weight",
    "model.norm.weight": "transformer.encoder.final_layernorm.weight",
    "lm_head.weight": "transformer.output_layer.weight",
    "self_attn.o_proj": "self_attention.dense",
    "mlp.gate_up_proj": "mlp.dense_h_to_4h",
    "mlp.down_proj": "mlp.dense_4h_to_h",
}


def _under_the_original_name(a: Architecture, name: str, shape: tuple[int, ...]) -> _Stored:
    if name in _CHATGLM_NAMES:
        return _Stored(_CHATGLM_NAMES[name], shape)
    _, _, layer, part = name.split(".", 3)
    stem, kind = part.rsplit(".", 1)
    prefix = f"transformer.encoder.layers.{layer}."
    q, kv = a.heads * a.head_dim, a.kv_heads * a.head_dim
    rows = {
        "self_attn.q_proj": slice(0, q),
        "self_attn.k_proj": slice(q, q + kv),
        "self_attn.v_proj": slice(q + kv, q + 2 * kv),
    }.get(stem)
    if rows is not None:
        return _Stored(f"{prefix}self_attention.query_key_value.{kind}", (q + 2 * kv, *shape[1:]), rows)
    return _Stored(f"{prefix}{_CHATGLM_NAMES.get(stem, stem)}.{kind}", shape)


_STORED: dict[
    str, Callable[[Architecture, str, tuple[int, ...]], _Stored]
] = {  # by architecture: where a canonical tensor lies
    "Glm4ForCausalLM": _under_the_same_name,
    "GlmForCausalLM": _under_the_same_name,
    "ChatGLMModel": _under_the_original_name,
}
_NO_WEIGHTS = "transformer.rotary_pos_emb.inv_freq"  # a table that the original format saves; recomputed in f32


def _weight_files(path: Path) -> list[Path]:
    """The weight files, in the order of transformers: one file, the index's shards, any single other file."""
    if (path / "model.safetensors").exists():
        return [path / "model.safetensors"]
    if (path / _INDEX).exists():
        return _shards(path)
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return found
    if found:
        raise CheckpointError(
            f"{len(found)} .safetensors files, but no {_INDEX}", hint="download the index from where the shards came"
        )
    if any(path.glob("*.bin")) or any(path.glob("*.pt")) or any(path.glob("*.pth")):
        raise CheckpointError(
            "the weights are a pickle, which can run code when it is opened; only safetensors are read",
            hint="download the safetensors version, or save it again with safe_serialization=True",
        )
    raise CheckpointError(f"no .safetensors file in {str(path)!r}", hint="download the checkpoint's weights")


def _shards(path: Path) -> list[Path]:
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


def _places(
    architecture: Architecture, files: list[SafetensorsFile]
) -> dict[str, tuple[SafetensorsFile, Entry, slice | None]]:
    """Finds every tensor of the architecture in the files; refuses what is missing, misshapen, or left over."""
    found: dict[str, tuple[SafetensorsFile, Entry]] = {}
    for file in files:
        for entry in file.entries.values():
            if entry.name in found:
                raise CheckpointError(
                    f"{entry.name[:200]!r} is both in {found[entry.name][0].path.name} and in {file.path.name}",
                    hint="remove the weight files that do not belong to this checkpoint",
                )
            found[entry.name] = (file, entry)
    where = _STORED[architecture.name]
    places = {}
    for name, shape in architecture.shapes():
        stored = where(architecture, name, shape)
        if stored.name not in found:
            raise CheckpointError(
                f"the tensor {stored.name!r} is missing",
                hint="config.json and the weight files do not belong together, or a shard is missing",
            )
        file, entry = found[stored.name]
        _check(file, entry, stored.shape)
        places[name] = (file, entry, stored.rows)
    used = {entry.name for _, entry, _ in places.values()} | {_NO_WEIGHTS}
    if architecture.tied_embeddings:
        used.add(where(architecture, "lm_head.weight", ()).name)  # some files keep a copy; transformers ignores it
    if left_over := sorted(found.keys() - used):
        raise CheckpointError(
            f"{left_over[0][:200]!r} is no part of this decoder ({len(left_over)} such tensors)",
            hint="only plain GLM-4 text models convert: merge adapters, and do not mix checkpoints",
        )
    return places


def _check(file: SafetensorsFile, entry: Entry, shape: tuple[int, ...]) -> None:
    if entry.dtype not in _DTYPES:
        raise CheckpointError(
            f"{entry.name!r} in {file.path.name} has the dtype {entry.dtype[:80]!r}",
            hint="bf16, f16 and f32 are supported; for a quantised checkpoint, convert the original one",
        )
    if entry.shape != shape:
        raise CheckpointError(
            f"{entry.name!r} has the shape {list(entry.shape)[:8]}, but config.json makes it {list(shape)}",
            hint="config.json and the weight files do not belong together",
        )
