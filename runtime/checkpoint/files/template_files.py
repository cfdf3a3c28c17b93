"""The chat templates in a checkpoint's folder, with the special tokens that they refer to, as in transformers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...chat_templates import DEFAULT, FILE, ChatTemplates, is_template_name
from ...errors import CheckpointError
from ...text import one_line, quoted, replace_surrogates
from .small_files import DOWNLOAD_AGAIN, read_file, read_json

_MAX_BYTES = 1 << 22
_MAX_TEMPLATES = 100
_FOLDER = "additional_chat_templates"


def read_templates(folder: Path) -> ChatTemplates | None:
    """Read the templates from where transformers 5 or 4 keep them; None for a base model. Raises CheckpointError."""
    config = read_json(folder / "tokenizer_config.json")
    named = dict(_from_files(folder)) or dict(_from_config(config.get("chat_template")))
    if not named:  # where processors kept it, before transformers 5
        named = dict(_from_config(read_json(folder / "chat_template.json").get("chat_template"), "chat_template.json"))
    if not named:
        return None
    if DEFAULT not in named:
        raise CheckpointError(
            f"of the checkpoint's chat templates ({', '.join(map(quoted, named))}) none is the default one",
            hint=f"put the one to use for chats into {FILE}",
        )
    return ChatTemplates(named, dict(_tokens(folder, config)))


def _from_files(folder: Path) -> Iterator[tuple[str, str]]:
    if (text := read_file(folder, FILE, _MAX_BYTES, within=True)) is not None:
        yield DEFAULT, _decode(FILE, text)
    paths = sorted((folder / _FOLDER).glob("*.jinja"))
    for path in paths[:_MAX_TEMPLATES]:
        name = _require_name(path.name.removesuffix(".jinja"), _FOLDER)
        if (text := read_file(folder, f"{_FOLDER}/{path.name}", _MAX_BYTES, within=True)) is not None:
            yield name, _decode(path.name, text)


def _decode(file: str, text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as exc:
        raise CheckpointError(f"{one_line(file)} is not UTF-8 text", hint="download it again") from exc


def _from_config(found: Any, file: str = "tokenizer_config.json") -> Iterator[tuple[str, str]]:
    """Yield the one template of a file, or those that it lists by name."""
    listed = {DEFAULT: found} if found is None or isinstance(found, str) else found
    if isinstance(listed, list):
        listed = {entry.get("name"): entry.get("template") for entry in listed if isinstance(entry, Mapping)}
    if not isinstance(listed, Mapping) or not all(isinstance(text, str | None) for text in listed.values()):
        raise CheckpointError(f"{file}: chat_template is damaged", hint="download it again")
    for name, text in list(listed.items())[:_MAX_TEMPLATES]:
        if text is not None:
            yield _require_name(name, file), text


def _require_name(name: object, source: str) -> str:
    if not is_template_name(name):
        raise CheckpointError(f"{source} has a chat template with the name {quoted(name)}", hint=DOWNLOAD_AGAIN)
    return str(name)


def _tokens(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the special tokens with names, `eos_token` and the like. special_tokens_map.json counts as in transformers:
    where tokenizer_config.json does not list the added tokens."""
    values = dict(config)
    if "added_tokens_decoder" not in config:
        values |= read_json(folder / "special_tokens_map.json")
    named = {key: value for key, value in values.items() if key.endswith("_token")}
    if isinstance(extra := values.get("extra_special_tokens"), Mapping):
        named |= extra
    for key, value in named.items():
        token = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(token, str) and key.isidentifier():
            yield key, replace_surrogates(token)
