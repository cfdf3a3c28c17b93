"""A model folder: IR, tokenizer, chat template, and `edge.json`, the manifest with the hash of every file.

OpenVINO GenAI's own pipelines can open the folder, too. Nothing in it is executed.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import strict_json
from ..chat_templates import DEFAULT, FILE, ChatTemplates, template_name
from ..errors import EdgeError, ModelFolderError
from ..sampling import Sampling
from ..system.files import expand_user, name_in_errors, read_bounded, write_atomically
from ..system.out_of_memory import map_out_of_memory
from ..text import one_line, quoted
from .manifest import FORMAT_VERSION, FileRecord, Manifest, with_field_names

MANIFEST = "edge.json"
CONVERT_AGAIN = "convert the checkpoint again"
_DIGEST_KEY = "sha256"  # key of the manifest's own hash; folders of early versions have none
_MAX_TEXT_BYTES = 1 << 26  # of a manifest or a template


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model folder whose manifest was read and whose files have the recorded sizes. `verify` checks their hashes.

    Example:
        folder = edge.ModelFolder.open("./glm4-int4")
        print(folder.name, folder.recipe, folder.context_length, "tokens")
    """

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The checkpoint's name, such as GLM-4-9B-0414."""
        return self.manifest.source.name

    @property
    def recipe(self) -> str:
        """The recipe of the conversion, such as int4."""
        return self.manifest.recipe

    @property
    def context_length(self) -> int:
        """The tokens of prompt and reply that the model has room for."""
        return self.manifest.context_length

    @property
    def model_folder(self) -> "ModelFolder":
        """The model folder itself."""
        return self

    @property
    def checkpoint(self) -> None:
        """None: the checkpoint's weights are not in a model folder."""
        return None

    @classmethod
    @map_out_of_memory(ModelFolderError)
    def open(cls, path: str | os.PathLike[str]) -> "ModelFolder":
        """Open a folder. Raises ModelFolderError if it is missing, damaged, or made by a later version."""
        folder = expand_user(path)
        if not folder.is_dir():
            raise ModelFolderError(
                f"there is no folder {os.fspath(path)!r}", hint="`edge convert CHECKPOINT FOLDER` makes one"
            )
        found = cls(folder, _read_manifest(folder))
        for name in found.manifest.files:
            if difference := found._size_mismatch(name):
                found.verify_manifest()  # the manifest itself may be damaged
                raise ModelFolderError(difference, hint=CONVERT_AGAIN)
        return found

    def _size_mismatch(self, name: str) -> str:
        """Describe how a file differs in kind or size from the manifest; "" if it does not."""
        try:
            status = (self.path / name).stat()
        except (OSError, ValueError):  # ValueError: \0 in the name
            return f"{self.path} is missing {one_line(name, 100)}"
        if not stat.S_ISREG(status.st_mode):
            return f"{self.path / name} is not a regular file"
        size, wanted = status.st_size, self.manifest.files[name].size
        return "" if size == wanted else f"{self.path / name} has {size:,} bytes; its manifest records {wanted:,}"

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Compare these files, or all, with their hashes. Raises ModelFolderError naming the first that differs."""
        for name in self.manifest.files if names is None else names:
            try:
                found = file_sha256(self.path / name)
            except OSError as exc:
                raise ModelFolderError(
                    f"{self.path / name} cannot be read: {exc.strerror}", hint=CONVERT_AGAIN
                ) from exc
            self.verify_hash(name, found)

    def verify_hash(self, name: str, found: str) -> None:
        """Raise ModelFolderError unless `found` is the recorded sha256 of this file."""
        if found != self.manifest.files[name].sha256:
            raise ModelFolderError(f"{self.path / name} is damaged: its hash differs", hint=CONVERT_AGAIN)

    def verify_manifest(self) -> None:
        """Compare the manifest with its own hash, if it has one. Raises ModelFolderError."""
        data = _read_manifest_json(self.path)
        if _DIGEST_KEY in data and data.pop(_DIGEST_KEY) != _fields_sha256(data):
            raise ModelFolderError(f"{self.path / MANIFEST} is damaged: its hash differs", hint=CONVERT_AGAIN)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.manifest.files.values())

    def chat_template(self) -> str:
        """Return the checkpoint's Jinja template. Raises ModelFolderError for a base model, which has none."""
        return self._template(FILE)

    def chat_templates(self) -> ChatTemplates:
        """Return the checkpoint's Jinja templates by name. Raises ModelFolderError for a base model."""
        names = {name: file for file in self.manifest.files if (name := template_name(file))} | {DEFAULT: FILE}
        return ChatTemplates(
            {name: self._template(file) for name, file in names.items()}, self.manifest.template_tokens
        )

    def _template(self, name: str) -> str:
        path = self.path / name
        try:
            return read_bounded(path, _MAX_TEXT_BYTES).decode()
        except FileNotFoundError:
            raise ModelFolderError(
                f"{self.path} has no chat template: it is a base model, for completion only",
                hint="`edge complete` continues a text; to chat, convert a chat model",
            ) from None
        except (OSError, UnicodeDecodeError) as exc:
            raise ModelFolderError(f"{path} cannot be read", hint=CONVERT_AGAIN) from exc

    def sampling(self) -> Sampling:
        """Return the sampling that the checkpoint recommends: the manifest's, or generation_config.json's in a folder
        whose manifest has none."""
        try:
            if self.manifest.sampling is not None:
                return Sampling.from_settings({**self.manifest.sampling}) or Sampling()  # type: ignore[typeddict-item]
            return Sampling.from_generation_config(self.generation_config())
        except (ValueError, TypeError, OverflowError, EdgeError) as exc:
            raise ModelFolderError(
                f"the sampling settings of {self.path} are damaged: {one_line(exc)}", hint=CONVERT_AGAIN
            ) from exc

    def generation_config(self) -> Mapping[str, Any]:
        """Return generation_config.json, {} if there is none. Raises ModelFolderError."""
        path = self.path / "generation_config.json"
        try:
            found = strict_json.parse(read_bounded(path, _MAX_TEXT_BYTES))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            raise ModelFolderError(f"{path} is damaged: {one_line(exc)}", hint=CONVERT_AGAIN) from exc
        if not isinstance(found, dict):
            raise ModelFolderError(f"{path} is not a JSON object", hint=CONVERT_AGAIN)
        return found


def write_manifest(folder: Path, manifest: Manifest, known: Mapping[str, FileRecord] = {}) -> ModelFolder:
    """Write the manifest, with size and hash of every file in `folder`, as its last file. Records that are `known` from
    writing the files are not computed again."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != MANIFEST)
    files = {name: _file_record(folder / name, known.get(name)) for name in names}
    sealed = replace(manifest, files=files)
    data = sealed.to_json()
    text = json.dumps(data | {_DIGEST_KEY: _fields_sha256(data)}, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / MANIFEST, text.encode())
    return ModelFolder(folder, sealed)


def _file_record(path: Path, known: FileRecord | None) -> FileRecord:
    size = path.stat().st_size
    return known if known and known.size == size else FileRecord(size, file_sha256(path))


def _fields_sha256(data: Mapping[str, Any]) -> str:
    """Return the hash of a manifest's fields, whatever their order and layout."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_manifest_json(folder: Path) -> Any:
    path = folder / MANIFEST
    try:
        return strict_json.parse(read_bounded(path, _MAX_TEXT_BYTES))
    except FileNotFoundError:
        if is_foreign(folder):
            raise foreign_error(folder) from None
        raise ModelFolderError(
            f"{folder} is not a model folder: it has no {MANIFEST}", hint="`edge convert CHECKPOINT FOLDER` makes one"
        ) from None
    except (OSError, ValueError) as exc:
        raise ModelFolderError(f"{path} is damaged: {one_line(exc)}", hint=CONVERT_AGAIN) from exc


def is_foreign(folder: Path) -> bool:
    """Return whether a folder has an OpenVINO graph, but no manifest: another program made it. A checkpoint that has
    one beside its weights is a checkpoint."""
    graphs = (folder / "openvino_model.xml", folder / "openvino_encoder_model.xml")  # the latter of a speech model
    manifest = folder / MANIFEST
    return any(graph.is_file() for graph in graphs) and not manifest.is_file() and not any(folder.glob("*.safetensors"))


def foreign_error(folder: Path) -> ModelFolderError:
    """Return the error for an OpenVINO folder without a manifest, which another program wrote."""
    return ModelFolderError(
        f"{folder} is an OpenVINO folder of another program: it has no {MANIFEST}",
        hint=f"`edge adopt {folder}` checks it and makes it a model folder",
    )


def _read_manifest(folder: Path) -> Manifest:
    from pydantic import TypeAdapter, ValidationError

    path = folder / MANIFEST
    data = _read_manifest_json(folder)
    version = data.get("format_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ModelFolderError(
            f"{folder} was made by a later version (format {version}, this one reads {FORMAT_VERSION})",
            hint="upgrade glm4-edge",
        )
    try:
        manifest = TypeAdapter(Manifest).validate_python(with_field_names(data))
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part)[:80] for part in first["loc"])
        raise ModelFolderError(f"{path} is damaged: {one_line(where)}: {first['msg']}", hint=CONVERT_AGAIN) from exc
    for name in manifest.files:
        if Path(name).name != name or not name.isprintable():
            raise ModelFolderError(f"{path} names a file outside the folder: {quoted(name)}", hint=CONVERT_AGAIN)
    return manifest


def file_sha256(path: Path) -> str:
    """Return a file's hash, in hexadecimal. Raises OSError."""
    with name_in_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
