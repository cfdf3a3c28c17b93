"""A checkpoint opened for a chat without conversion: its config, tokenizer and template, described by a manifest."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chat_templates import DEFAULT, ChatTemplates
from ..errors import CheckpointError, EdgeError
from ..folder.manifest import CheckpointRecord, Manifest
from ..prompt import families
from ..prompt.detection import adapt_family, detect_family
from ..prompt.families import Family
from ..sampling import Sampling
from ..system.files import expand_user
from ..system.out_of_memory import map_out_of_memory
from ..text import one_line
from .adapters.config import reject_adapter_beside_weights
from .adapters.reference import AdapterLike
from .architecture import Architecture, read_architecture
from .formats import CheckpointFiles, open_files
from .long_context import extend_context
from .role_tokens import (
    end_token_ids,
    require_special_role_tokens,
    resolve_stop_tokens,
    spelled_special_tokens,
)
from .tokenizer import CheckpointTokenizer
from .vision.tower import describe_vision

if TYPE_CHECKING:
    from .adapters.adapter import ModelAdapters
    from .tensors import CheckpointTensors

_TEMPLATE_HINT = (
    "put the checkpoint's own chat template there; the names of llama.cpp's built-in templates are not supported"
)
UNCONVERTED = "checkpoint"  # in the manifest, instead of a recipe


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint, read and validated except for its weights, which `weights` opens.

    `templates` is None for a base model. `generation` is generation_config.json, with the ids of all stop tokens.
    """

    path: Path
    config: Mapping[str, Any]
    architecture: Architecture
    tokenizer: CheckpointTokenizer
    templates: ChatTemplates | None
    generation: Mapping[str, Any]
    manifest: Manifest
    files: CheckpointFiles = field(repr=False, compare=False)
    adapters: "ModelAdapters | None" = field(default=None, repr=False, compare=False)

    @classmethod
    @map_out_of_memory(CheckpointError)
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        context: int | None = None,
        adapters: Sequence[AdapterLike] = (),
    ) -> "Checkpoint":
        """Open a folder with config.json and a tokenizer, or a GGUF file. `context` extends the model's context to so
        many tokens. `adapters` are folders of LoRA adapters, each with an optional @WEIGHT, which are merged into the
        weights.

        Raises CheckpointError for what is missing, damaged or unsupported, TemplateError for a broken template.
        """
        path = expand_user(path)
        files = _open_files(path)
        config = files.config()
        notes: tuple[str, ...] = ()
        if context is not None:
            native = read_architecture(config).context
            config = extend_context(config, context)
            notes = (
                f"the context is extended from {native:,} to {context:,} tokens, which may cost short texts quality",
            )
        architecture = read_architecture(config)
        templates = files.templates()
        for template in {templates.select(tools=tools) for tools in (False, True)} if templates else ():
            if "{" not in template:  # nothing to fill in
                what = f"is {one_line(template, 60)!r}, not a template" if template.strip() else "is empty"
                raise CheckpointError(f"the chat template of {files.name()} {what}", hint=_TEMPLATE_HINT)
        family = detect_family(config, templates)
        if templates is None and family.template:
            templates = ChatTemplates({DEFAULT: family.template})
        generation = files.generation()
        sampling = _read_sampling(generation)
        inner = config.get("text_config")
        ends = end_token_ids(config, inner if isinstance(inner, dict) else {}, generation)
        tokenizer = files.tokenizer(architecture.vocab, [end for end in ends if type(end) is int])
        spelled = spelled_special_tokens(family, templates)
        stops = resolve_stop_tokens(family, spelled, ends, tokenizer)
        require_special_role_tokens(spelled, stops, tokenizer)
        special = tokenizer.special_tokens
        ends += [special[name] for name in stops if special[name] not in ends]
        generation = {"pad_token_id": special[tokenizer.pad_token]} | generation | {"eos_token_id": ends}
        manifest = Manifest(
            family=family.name,
            recipe=UNCONVERTED,
            source=CheckpointRecord(files.name(), architecture.name, fingerprint=""),
            context_length=architecture.context,
            kv_bytes_per_token=architecture.kv_bytes_per_token,
            special_tokens=special,
            stop_tokens=stops,
            sampling=sampling.recommended(),
            licence=files.licence(),
            notes=notes,
            template_tokens=templates.tokens if templates else {},
            vision=describe_vision(architecture.vision, files.image_processor()) if architecture.vision else None,
        )
        found = cls(path, config, architecture, tokenizer, templates, generation, manifest, files)
        return found.with_adapters(adapters) if adapters else found

    def with_adapters(self, adapters: Sequence[AdapterLike]) -> "Checkpoint":
        """Return the checkpoint with these LoRA adapters merged into its weights. Raises CheckpointError."""
        from .adapters.adapter import open_adapters

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
        """The family that the manifest names, with what the chat templates show."""
        return adapt_family(families.get(self.manifest.family), self.templates, self.manifest.special_tokens)

    def weights(self, *, mapped: bool = True) -> "CheckpointTensors":
        """Open the tensors, adapters merged: views of `mapped` files, or read when they are used. Raises
        CheckpointError."""
        from .tensors import CheckpointTensors

        if self.adapters is None:
            reject_adapter_beside_weights(self.path)
        return CheckpointTensors.from_files(
            self.path, dict(self.config), self.architecture, self.files, mapped=mapped, adapters=self.adapters
        )

    @property
    def template(self) -> str | None:
        """The chat template, the default one of several; None for a base model."""
        return self.templates.default if self.templates else None

    def chat_template(self) -> str:
        """Return the checkpoint's Jinja template. Raises CheckpointError for a base model, which has none."""
        return self.chat_templates().default

    def chat_templates(self) -> ChatTemplates:
        """Return the checkpoint's Jinja templates by name. Raises CheckpointError for a base model."""
        if self.templates is None:
            raise CheckpointError(
                f"{self.path} has no chat template: it is a base model, for completion only",
                hint="use a chat model, or put its chat_template.jinja into the folder",
            )
        return self.templates

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


def _read_sampling(generation: Mapping[str, Any]) -> Sampling:
    try:
        return Sampling.from_generation_config(generation)
    except (EdgeError, TypeError, ValueError, OverflowError) as exc:
        raise CheckpointError(f"generation_config.json is damaged: {one_line(exc)}", hint="download it again") from exc
