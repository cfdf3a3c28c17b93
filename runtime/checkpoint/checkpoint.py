"""A checkpoint as something that can be opened for a chat: the texts beside its weights, in the words of a manifest."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import CheckpointError, EdgeError
from ..folder.model_folder import MANIFEST, CheckpointRecord, Manifest, ModelFolder
from ..prompt import families
from ..prompt.detection import detect_family
from ..prompt.families import Family
from ..sampling import Sampling
from ..system.files import expand_user
from ..system.out_of_memory import map_out_of_memory
from ..text import one_line
from .architecture import Architecture, read_architecture, read_config
from .role_tokens import require_special_role_tokens
from .small_files import read_file, read_licence
from .tokenizer import CheckpointTokenizer, read_json, read_tokenizer

if TYPE_CHECKING:
    from .tensors import CheckpointTensors

_TEMPLATE_HINT = (
    "put the checkpoint's own chat template there; llama.cpp's names of its built-in ones are not known here"
)
_MAX_TEMPLATE_BYTES = 1 << 22  # bytes
UNCONVERTED = "checkpoint"  # stands where a model folder's manifest names its recipe


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with config.json and a tokenizer, or a GGUF file, read and checked. The folder's weights may be missing
    until `weights`.

    `template` is None for a base model. `generation` is generation_config.json over what config.json says.
    """

    path: Path
    config: Mapping[str, Any]
    architecture: Architecture
    tokenizer: CheckpointTokenizer
    template: str | None
    generation: Mapping[str, Any]
    manifest: Manifest

    @classmethod
    @map_out_of_memory(CheckpointError)
    def open(cls, path: str | os.PathLike[str]) -> "Checkpoint":
        """Raises CheckpointError for what is missing, damaged or unsupported, TemplateError for a broken template."""
        path = expand_user(path)
        source = _open_text_files(path)
        config = source.config()
        architecture = read_architecture(config)
        template = source.template()
        if template is not None and "{" not in template:  # nothing to fill in
            what = f"is {one_line(template, 60)!r}, no template" if template.strip() else "is empty"
            raise CheckpointError(f"the chat template of {source.name()} {what}", hint=_TEMPLATE_HINT)
        family = detect_family(config, template)
        ends = config.get("eos_token_id")
        ends = [id for id in (ends if isinstance(ends, list) else [ends]) if isinstance(id, int)]
        tokenizer = source.tokenizer(architecture.vocab, ends)
        stops = _stop_token_ids(family, tokenizer)
        generation = {"eos_token_id": ends or stops, "pad_token_id": tokenizer.special_tokens[tokenizer.pad_token]}
        generation |= _validate_generation_config(source.generation())
        require_special_role_tokens(family, template, tokenizer)
        manifest = Manifest(
            family=family.name,
            recipe=UNCONVERTED,
            source=CheckpointRecord(source.name(), architecture.name, fingerprint=""),
            context_length=architecture.context,
            kv_bytes_per_token=architecture.kv_bytes_per_token,
            special_tokens=tokenizer.special_tokens,
            licence=source.licence(),
        )
        return cls(path, config, architecture, tokenizer, template, generation, manifest)

    @property
    def family(self) -> Family:
        return families.get(self.manifest.family)

    def weights(self, *, mapped: bool = True) -> "CheckpointTensors":
        """The tensors, lazily: in `mapped` files, or read when they are used. Raises CheckpointError."""
        from .tensors import CheckpointTensors

        return CheckpointTensors.open(self.path, mapped=mapped)

    def chat_template(self) -> str:
        """The checkpoint's own Jinja template. Raises CheckpointError where it came without."""
        if self.template is None:
            raise CheckpointError(
                f"{self.path} has no chat template: it is a base model, for completion only",
                hint="take a chat model, or put its chat_template.jinja into the folder",
            )
        return self.template

    def sampling(self) -> Sampling:
        """What the checkpoint recommends."""
        return Sampling.from_generation_config(self.generation)


Folder = ModelFolder | Checkpoint


def open_folder(path: str | os.PathLike[str]) -> Folder:
    """The model folder or the checkpoint in a folder or file; a model folder holds a config.json, too, and is told by
    its manifest. Raises ModelFolderError or CheckpointError."""
    folder = expand_user(path)
    if folder.is_file() or ((folder / "config.json").is_file() and not (folder / MANIFEST).is_file()):
        return Checkpoint.open(folder)
    return ModelFolder.open(folder)


class _TextFiles(Protocol):
    """Where the texts of a checkpoint are. Each raises CheckpointError."""

    def name(self) -> str: ...

    def config(self) -> dict[str, Any]: ...

    def template(self) -> str | None: ...

    def tokenizer(self, vocabulary: int, end_ids: Sequence[int] = ()) -> CheckpointTokenizer: ...

    def generation(self) -> dict[str, Any]: ...

    def licence(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _FolderTextFiles:
    """They are files of a folder."""

    path: Path

    def name(self) -> str:
        return _model_name(self.path)

    def config(self) -> dict[str, Any]:
        return read_config(self.path)

    def template(self) -> str | None:
        return _read_chat_template(self.path)

    def tokenizer(self, vocabulary: int, end_ids: Sequence[int] = ()) -> CheckpointTokenizer:
        return read_tokenizer(self.path, vocabulary, end_ids)

    def generation(self) -> dict[str, Any]:
        return read_json(self.path / "generation_config.json")

    def licence(self) -> str:
        return _licence_name(self.path)


def _open_text_files(path: Path) -> _TextFiles:
    if not path.is_file():
        return _FolderTextFiles(path)
    from .gguf_checkpoint import GgufCheckpoint

    try:
        return GgufCheckpoint.open(path)
    except OSError as exc:
        raise CheckpointError(
            f"{str(path)!r} cannot be read: {exc.strerror or exc}", hint="check its permissions"
        ) from exc


def _stop_token_ids(family: Family, tokenizer: CheckpointTokenizer) -> list[int]:
    stops = [tokenizer.special_tokens[name] for name in family.stop_tokens if name in tokenizer.special_tokens]
    if not stops:
        raise CheckpointError(
            f"the tokenizer has none of the stop tokens {', '.join(family.stop_tokens)}",
            hint="it belongs to another model: download the checkpoint's own tokenizer files",
        )
    return stops


def _read_chat_template(checkpoint: Path) -> str | None:
    """The chat template, from where transformers 5 or 4 keep it; of several, the default. None for a base model."""
    text = read_file(checkpoint, "chat_template.jinja", _MAX_TEMPLATE_BYTES, within=True)
    try:
        if text is not None:
            return text.decode()
    except UnicodeDecodeError as exc:
        raise CheckpointError("chat_template.jinja is not UTF-8 text", hint="download it again") from exc
    found = read_json(checkpoint / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default")
    if found is not None and not isinstance(found, str):
        raise CheckpointError("tokenizer_config.json: chat_template is damaged", hint="download it again")
    return found


def _validate_generation_config(found: dict[str, Any]) -> dict[str, Any]:
    try:
        Sampling.from_generation_config(found)
    except (EdgeError, TypeError, ValueError, OverflowError) as exc:
        raise CheckpointError(f"generation_config.json is damaged: {one_line(exc)}", hint="download it again") from exc
    return found


def _model_name(checkpoint: Path) -> str:
    """The folder's name; in the hub's cache that is a commit, and the model's stands further up."""
    path = checkpoint.resolve()
    return (
        path.parents[1].name.removeprefix("models--").replace("--", "/")
        if path.parent.name == "snapshots"
        else path.name
    )


def _licence_name(checkpoint: Path) -> str:
    """What the model card's header names, or the licence file."""
    card, licensed = read_licence(checkpoint)
    header = card.decode(errors="replace").split("\n---", 1)[0]
    for key in ("license_name", "license"):
        if (found := re.search(rf"^{key}:\s*(\S.*?)\s*$", header, re.MULTILINE)) and found[1] != "other":
            return one_line(found[1].strip("\"'"), 200)
    return "see LICENSE" if licensed else ""
