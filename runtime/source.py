"""The sources of a model, a model folder or a checkpoint, behind one protocol."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from .chat_templates import FILE, ChatTemplates
from .checkpoint.adapters.config import reject_adapter_alone
from .checkpoint.adapters.reference import AdapterReference
from .checkpoint.checkpoint import Checkpoint
from .checks import require
from .errors import ModelFolderError, TemplateError
from .folder.manifest import Manifest, Task
from .folder.model_folder import CONVERT_AGAIN, MANIFEST, ModelFolder, foreign_error, is_foreign
from .prompt import families
from .prompt.detection import adapt_family
from .prompt.families import Family
from .sampling import Sampling
from .system.files import expand_user

# What models are that do not chat, and what runs them.
OTHER_TASKS: Mapping[Task, tuple[str, str]] = {
    "embedding": ("an embedding model", "`edge serve` with this folder answers /v1/embeddings"),
    "rerank": ("a reranking model", "`edge serve` with this folder answers /v1/rerank"),
    "transcription": (
        "a speech recognition model",
        "`edge serve` with this folder answers /v1/audio/transcriptions, and `edge.Transcriber` runs it in Python",
    ),
    "speech": (
        "a text-to-speech model",
        "`edge serve` with this folder answers /v1/audio/speech, and `edge.Synthesizer` runs it in Python",
    ),
}


@runtime_checkable
class ModelSource(Protocol):
    """A model's files, opened and checked. The manifest of a checkpoint is derived from its config.json."""

    @property
    def path(self) -> Path:
        """The folder, or the GGUF file."""
        ...

    @property
    def manifest(self) -> Manifest:
        """The facts of the model that need no engine."""
        ...

    @property
    def model_folder(self) -> ModelFolder | None:
        """The converted model, for engines that run OpenVINO IR; None for a checkpoint."""
        ...

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint itself, for engines that read its weights; None for a converted model."""
        ...

    def chat_template(self) -> str:
        """The Jinja chat template. Raises ModelFolderError or CheckpointError for a base model, which has none."""
        ...

    def chat_templates(self) -> ChatTemplates:
        """All Jinja chat templates by name. Raises as `chat_template` does."""
        ...

    def sampling(self) -> Sampling:
        """The settings that the checkpoint recommends."""
        ...


def validate_adapters(source: ModelSource, adapters: Sequence[AdapterReference]) -> None:
    """Raise CheckpointError if LoRA adapters do not fit the model, without loading it."""
    from .checkpoint.adapters.adapter import open_adapters
    from .checkpoint.architecture import read_architecture, read_config

    checkpoint = source.checkpoint
    open_adapters(checkpoint.architecture if checkpoint else read_architecture(read_config(source.path)), adapters)


def stop_tokens(source: ModelSource) -> tuple[str, ...]:
    """Return the special tokens that end a reply. An early folder's manifest names none: those of its family, then, and
    of its generation_config.json."""
    manifest, folder = source.manifest, source.model_folder
    if manifest.stop_tokens:
        return manifest.stop_tokens
    ends = {} if folder is None else folder.generation_config()
    ids = ends.get("eos_token_id")
    listed = ids if isinstance(ids, list) else [ids]
    named = (name for name, token_id in manifest.special_tokens.items() if token_id in listed)
    return tuple(dict.fromkeys([*families.get(manifest.family).stop_tokens, *named]))


def read_family(source: ModelSource) -> Family:
    """Return the family that the manifest names, with what the chat templates show. Raises ModelFolderError,
    CheckpointError or TemplateError."""
    family = families.get(source.manifest.family)
    templates = None if family is families.BASE else source.chat_templates()
    try:
        return adapt_family(family, templates, source.manifest.special_tokens)
    except TemplateError as exc:
        if source.model_folder is None:
            raise
        # It was valid when the folder was written.
        raise TemplateError(f"{source.path / FILE} is damaged: {exc}", hint=CONVERT_AGAIN) from exc


def require_chat_model(source: ModelSource) -> None:
    """Raise ModelFolderError for a model that does something else."""
    if (task := source.manifest.task) != "chat":
        kind, runs = OTHER_TASKS[task]
        raise ModelFolderError(f"{source.path} is {kind}: it does not chat", hint=runs)


def open_source(source: str | os.PathLike[str] | ModelSource) -> ModelSource:
    """Open the model folder or checkpoint at a path (a folder, or a GGUF file); return one that is open as it is.

    A model folder also holds a config.json, and is recognized by its manifest. Raises ModelFolderError or
    CheckpointError for what is missing or damaged, RequestError for an argument that is neither.
    """
    if isinstance(source, str | os.PathLike):
        path = expand_user(source)
        if is_foreign(path):
            raise foreign_error(path)
        if path.is_file() or ((path / "config.json").is_file() and not (path / MANIFEST).is_file()):
            return Checkpoint.open(path)
        if not (path / MANIFEST).is_file():
            reject_adapter_alone(path)
        return ModelFolder.open(source)
    require("the model folder", source, ModelSource, "a path")
    return source
