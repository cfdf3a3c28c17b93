"""A checkpoint opened for a chat without conversion: its config, tokenizer and template, described by a manifest."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, EdgeError
from ..folder.model_folder import CheckpointRecord, Manifest
from ..prompt import families
from ..prompt.detection import detect_family
from ..prompt.families import Family
from ..sampling import Sampling
from ..system.files import expand_user
from ..system.out_of_memory import map_out_of_memory
from ..text import one_line
from .adapter_config import reject_adapter_beside_weights
from .adapter_reference import AdapterLike
from .architecture import Architecture, read_architecture
from .formats import CheckpointFiles, open_files
from .role_tokens import require_special_role_tokens
from .tokenizer import CheckpointTokenizer

if TYPE_CHECKING:
    from .adapter import ModelAdapters
    from .tensors import CheckpointTensors

_TEMPLATE_HINT = (
    "put the checkpoint's own chat template there; the names of llama.cpp's built-in templates are not supported"
)
UNCONVERTED = "checkpoint"  # in the manifest, instead of a recipe


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint, read and validated except for its weights, which `weights` opens.

    `template` is None for a base model. `generation` is generation_config.json, with defaults from config.json.
    """

    path: Path
    config: Mapping[str, Any]
    architecture: Architecture
    tokenizer: CheckpointTokenizer
    template: str | None
    generation: Mapping[str, Any]
    manifest: Manifest
    files: CheckpointFiles = field(repr=False, compare=False)
    adapters: "ModelAdapters | None" = field(default=None, repr=False, compare=False)

    @classmethod
    @map_out_of_memory(CheckpointError)
    def open(cls, path: str | os.PathLike[str], adapters: Sequence[AdapterLike] = ()) -> "Checkpoint":
        """Open a folder with config.json and a tokenizer, or a GGUF file. `adapters` are folders of LoRA adapters, each
        with an optional @WEIGHT, which are merged into the weights.

        Raises CheckpointError for what is missing, damaged or unsupported, TemplateError for a broken template.
        """
        path = expand_user(path)
        files = _open_files(path)
        config = files.config()
        architecture = read_architecture(config)
        template = files.template()
        if template is not None and "{" not in template:  # nothing to fill in
            what = f"is {one_line(template, 60)!r}, not a template" if template.strip() else "is empty"
            raise CheckpointError(f"the chat template of {files.name()} {what}", hint=_TEMPLATE_HINT)
        family = detect_family(config, template)
        ends = config.get("eos_token_id")
        ends = [end for end in (ends if isinstance(ends, list) else [ends]) if isinstance(end, int)]
        tokenizer = files.tokenizer(architecture.vocab, ends)
        stops = _stop_token_ids(family, tokenizer)
        generation = {"eos_token_id": ends or stops, "pad_token_id": tokenizer.special_tokens[tokenizer.pad_token]}
        generation |= _validate_generation_config(files.generation())
        require_special_role_tokens(family, template, tokenizer)
        manifest = Manifest(
            family=family.name,
            recipe=UNCONVERTED,
            source=CheckpointRecord(files.name(), architecture.name, fingerprint=""),
            context_length=architecture.context,
            kv_bytes_per_token=architecture.kv_bytes_per_token,
            special_tokens=tokenizer.special_tokens,
            licence=files.licence(),
        )
        found = cls(path, config, architecture, tokenizer, template, generation, manifest, files)
        return found.with_adapters(adapters) if adapters else found

    def with_adapters(self, adapters: Sequence[AdapterLike]) -> "Checkpoint":
        """Return the checkpoint with these LoRA adapters merged into its weights. Raises CheckpointError."""
        from .adapter import open_adapters

        opened = open_adapters(self.architecture, adapters)
        manifest = replace(self.manifest, adapters=opened.records)
        return replace(self, manifest=manifest, adapters=opened)

    @property
    def model_folder(self) -> None:
        """None: a checkpoint is not converted."""
        return None

    @property
    def checkpoint(self) -> "Checkpoint":
        """The checkpoint itself."""
        return self

    @property
    def family(self) -> Family:
        """The family that the manifest names."""
        return families.get(self.manifest.family)

    def weights(self, *, mapped: bool = True) -> "CheckpointTensors":
        """Open the tensors, adapters merged: views of `mapped` files, or read when they are used. Raises
        CheckpointError."""
        from .tensors import CheckpointTensors

        if self.adapters is None:
            reject_adapter_beside_weights(self.path)
        return CheckpointTensors.from_files(
            self.path, dict(self.config), self.architecture, self.files, mapped=mapped, adapters=self.adapters
        )

    def chat_template(self) -> str:
        """Return the checkpoint's Jinja template. Raises CheckpointError for a base model, which has none."""
        if self.template is None:
            raise CheckpointError(
                f"{self.path} has no chat template: it is a base model, for completion only",
                hint="use a chat model, or put its chat_template.jinja into the folder",
            )
        return self.template

    def sampling(self) -> Sampling:
        """Return the sampling that the checkpoint recommends."""
        return Sampling.from_generation_config(self.generation)


def _open_files(path: Path) -> CheckpointFiles:
    try:
        return open_files(path)
    except OSError as exc:
        raise CheckpointError(
            f"{str(path)!r} cannot be read: {exc.strerror or exc}", hint="check its permissions"
        ) from exc


def _stop_token_ids(family: Family, tokenizer: CheckpointTokenizer) -> list[int]:
    stops = [tokenizer.special_tokens[name] for name in family.stop_tokens if name in tokenizer.special_tokens]
    if not stops:
        raise CheckpointError(
            f"the tokenizer has none of the stop tokens {', '.join(family.stop_tokens)}",
            hint="the tokenizer belongs to another model: download the checkpoint's own files",
        )
    return stops


def _validate_generation_config(found: dict[str, Any]) -> dict[str, Any]:
    try:
        Sampling.from_generation_config(found)
    except (EdgeError, TypeError, ValueError, OverflowError) as exc:
        raise CheckpointError(f"generation_config.json is damaged: {one_line(exc)}", hint="download it again") from exc
    return found
