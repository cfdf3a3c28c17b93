"""LoRA adapters as PEFT saves them: a folder with adapter_config.json and adapter_model.safetensors.

Their tensors are named after the modules of the model that they were trained on, in the names of transformers' classes
or of ChatGLMModel. Here they become updates of canonical tensors, so an adapter fits its base in either format.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from ...errors import CheckpointError
from ...folder.manifest import AdapterRecord
from ...text import quoted, replace_surrogates
from ..architecture import Architecture
from ..files.small_files import os_error_cure, os_error_reason
from ..tensor import Dtype, Tensor
from ..tensor_names import TensorLocation, canonical_names, chatglm_names
from .config import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    MERGE_HINT,
    PICKLED_WEIGHTS,
    LoraConfig,
    read_adapter_config,
)
from .merged_rows import LowRank, merge
from .reference import AdapterLike, AdapterReference, parse_adapters

if TYPE_CHECKING:
    from ..files.safetensors_file import SafetensorsFile

# base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight; trainers differ in the parts in parentheses.
_FACTOR = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\."
    r"(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(?:\.default)?(?:\.weight)?"
)
_REPLACEMENT = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+?)(?:\.base_layer|\.modules_to_save(?:\.default)?)?\.(?P<kind>weight|bias)"
)
_DORA_HINT = "merge the adapters with PEFT one after the other, or leave out all but this one"


@dataclass(frozen=True, slots=True)
class ModelAdapters:
    """The adapters of a model: what they add to its tensors, and what replaces tensors, by canonical names."""

    records: tuple[AdapterRecord, ...] = ()
    updates: Mapping[str, tuple[LowRank, ...]] = field(default_factory=dict, repr=False)
    replacements: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    places: Mapping[str, str] = field(default_factory=dict, repr=False)  # of replacements, for messages

    def merge(self, tensor: Tensor) -> Tensor:
        """Return the checkpoint's tensor with its updates, or what replaces it, in the same type. The values are
        computed by rows, when they are read."""
        base, updates = self.replacements.get(tensor.name, tensor), self.updates.get(tensor.name, ())
        dtype: Dtype = "f32" if tensor.decode is not None else tensor.dtype
        return merge(base, updates, dtype) if updates or base.dtype != dtype else base


def open_adapters(architecture: Architecture, references: Sequence[AdapterLike]) -> ModelAdapters:
    """Open adapters for a model of this architecture; their updates add up.

    Raises CheckpointError for an adapter that is damaged, unsupported or of another model, naming its tensor;
    RequestError for a weight that is not a number.
    """
    records: list[AdapterRecord] = []
    updates: defaultdict[str, list[LowRank]] = defaultdict(list)
    replacements: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    for reference in parse_adapters(references):
        adapter = _Adapter.open(reference, architecture)
        if len(references) > 1 and adapter.config.dora:
            raise CheckpointError(
                f"the adapter {adapter.name} is a DoRA, which cannot be added to others", hint=_DORA_HINT
            )
        for name, update in adapter.updates():
            updates[name].append(update)
        for name, tensor, place in adapter.replacements():
            if name in replacements:
                raise CheckpointError(
                    f"{place} and {places[name]} replace the same tensor", hint="leave out one of the two adapters"
                )
            replacements[name], places[name] = tensor, place
        records.append(adapter.record())
    return ModelAdapters(tuple(records), {name: tuple(found) for name, found in updates.items()}, replacements, places)


@dataclass(frozen=True, slots=True)
class _Adapter:
    """An open adapter, its tensors grouped by module and checked against the architecture."""

    name: str
    weight: float
    config: LoraConfig
    architecture: Architecture
    file: "SafetensorsFile"
    config_hash: str

    @classmethod
    def open(cls, reference: AdapterReference, architecture: Architecture) -> "_Adapter":
        from ..files.safetensors_file import SafetensorsFile

        path = reference.path
        if not path.is_dir():
            raise CheckpointError(
                f"there is no adapter folder {str(path)!r}", hint=f"pass the folder that contains {ADAPTER_CONFIG}"
            )
        if not (path / ADAPTER_CONFIG).is_file():
            steps = sorted(step.name for step in path.glob("checkpoint-*") if (step / ADAPTER_CONFIG).is_file())
            raise CheckpointError(
                f"{str(path)!r} has no {ADAPTER_CONFIG}: it is not a LoRA adapter",
                hint=f"pass one of its checkpoints, such as {path / steps[-1]}"
                if steps
                else "pass a folder that PEFT's save_pretrained wrote; a checkpoint is converted without --adapter",
            )
        config = read_adapter_config(path)
        if not (path / ADAPTER_WEIGHTS).is_file():
            pickled = (path / PICKLED_WEIGHTS).is_file()
            raise CheckpointError(
                f"the adapter's weights are a pickle ({PICKLED_WEIGHTS}), which can run code when it is opened"
                if pickled
                else f"{ADAPTER_WEIGHTS} is missing in {str(path)!r}",
                hint="save it again with safe_serialization=True" if pickled else "download the adapter's weights",
            )
        try:
            file = SafetensorsFile.open(path / ADAPTER_WEIGHTS, mapped=False)
            config_hash = sha256((path / ADAPTER_CONFIG).read_bytes()).hexdigest()
        except OSError as exc:
            raise CheckpointError(
                f"the adapter in {str(path)!r} cannot be read: {os_error_reason(exc)}", hint=os_error_cure(exc)
            ) from exc
        name = replace_surrogates(path.resolve().name)
        return cls(name, reference.weight, config, architecture, file, config_hash)

    def record(self) -> AdapterRecord:
        """Return the adapter's record for a manifest."""
        digest = sha256(f"{self.config_hash} {self.file.sha256()}".encode()).hexdigest()
        return AdapterRecord(self.name, digest, self.weight)

    def updates(self) -> Iterator[tuple[str, LowRank]]:
        """Yield the updates by canonical names. Every tensor that belongs to none, and is no replacement, raises."""
        targets = _targets(self.architecture)
        modules: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for name in self.file.entries:
            if match := _FACTOR.fullmatch(name):
                modules[match["module"]][match["part"]] = name
        for module, parts in modules.items():
            places = targets.get(f"{module}.weight")
            if places is None:
                raise self._unknown(next(iter(parts.values())))
            yield from self._module_updates(module, parts, places)

    def _module_updates(
        self, module: str, parts: Mapping[str, str], places: Sequence[tuple[str, TensorLocation]]
    ) -> Iterator[tuple[str, LowRank]]:
        embedding = places[0][0] == "model.embed_tokens.weight"
        names = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
        if missing := [name for name in names if name not in parts]:
            present = next(iter(parts.values()))
            raise CheckpointError(
                f"the adapter {self.name} has {quoted(present)} without {missing[0]}", hint="save the adapter again"
            )
        if embedding and self.architecture.tied_embeddings:
            raise CheckpointError(
                f"{quoted(parts[names[0]])} of the adapter {self.name} changes an embedding that is the head, too",
                hint=MERGE_HINT,
            )
        (rows, columns), rank = places[0][1].shape, self.config.rank_of(module)
        first = self._tensor(parts[names[0]], (rank, rows if embedding else columns))
        second = self._tensor(parts[names[1]], (columns if embedding else rows, rank))
        magnitude = parts.get("lora_magnitude_vector")
        if self.config.dora != (magnitude is not None) or (self.config.dora and (embedding or self.weight != 1)):
            raise CheckpointError(
                f"{module} of the adapter {self.name} "
                + ("has no DoRA magnitudes" if self.config.dora and magnitude is None else "cannot be merged as DoRA"),
                hint="DoRA is supported for linear layers, with weight 1",
            )
        scale = self.weight * self.config.scale_of(module)
        if embedding:
            yield places[0][0], LowRank(first, second, scale, transposed=True)
            return
        lengths = None if magnitude is None else self._vector(magnitude, rows)
        for name, place in places:
            part = place.rows or slice(0, rows)
            yield (
                name,
                LowRank(
                    second.rows(part.start, part.stop),
                    first,
                    scale,
                    None if lengths is None else lengths.rows(part.start, part.stop),
                ),
            )

    def replacements(self) -> Iterator[tuple[str, Tensor, str]]:
        """Yield the tensors that replace the base's (modules_to_save): canonical name, tensor, its place in words."""
        targets = _targets(self.architecture)
        for stored in self.file.entries:
            if _FACTOR.fullmatch(stored):
                continue
            match = _REPLACEMENT.fullmatch(stored)
            places = targets.get(f"{match['module']}.{match['kind']}") if match else None
            if places is None:
                raise self._unknown(stored)
            if self.weight != 1:
                raise CheckpointError(
                    f"{quoted(stored)} of the adapter {self.name} replaces a tensor, which a weight cannot scale",
                    hint="use the adapter with weight 1",
                )
            if self.architecture.tied_embeddings and places[0][0] == "model.embed_tokens.weight":
                raise CheckpointError(
                    f"{quoted(stored)} of the adapter {self.name} replaces an embedding that is the head, too",
                    hint=MERGE_HINT,
                )
            whole = self._tensor(stored, places[0][1].shape)
            for name, place in places:
                part = whole if place.rows is None else whole.rows(place.rows.start, place.rows.stop)
                renamed = Tensor(name, part.shape, part.dtype, part.raw)
                yield name, renamed, f"{quoted(stored)} in {self.file.path.name} of {self.name}"

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        entry = self.file.entries[name]
        self.file.require_supported(entry)
        if entry.shape != shape:
            raise CheckpointError(
                f"{quoted(name)} of the adapter {self.name} has the shape {list(entry.shape)[:8]}, "
                f"but this base model and the adapter's config require {list(shape)}",
                hint=self._base_hint(),
            )
        return self.file.tensor(entry, name)

    def _vector(self, name: str, rows: int) -> Tensor:
        """Return a vector; some versions of PEFT save it with a second axis of length 1."""
        return self._tensor(name, (rows, 1) if len(self.file.entries[name].shape) == 2 else (rows,))

    def _unknown(self, name: str) -> CheckpointError:
        return CheckpointError(
            f"{quoted(name)} of the adapter {self.name} belongs to no tensor of this {self.architecture.name}",
            hint=self._base_hint(),
        )

    def _base_hint(self) -> str:
        base = self.config.base
        return f"the adapter was trained on {base}: use that model" if base else "use the model it was trained on"


def _targets(architecture: Architecture) -> dict[str, list[tuple[str, TensorLocation]]]:
    """Return the canonical tensors, and their rows, that each stored tensor contains, in either format's names."""
    found: defaultdict[str, list[tuple[str, TensorLocation]]] = defaultdict(list)
    for name, shape in architecture.shapes():
        original = chatglm_names(architecture, name, shape)
        found[original.name].append((name, original))
        if original.name != name:
            found[name].append((name, canonical_names(architecture, name, shape)))
    return dict(found)
