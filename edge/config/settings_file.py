"""The settings of `edge serve` and `edge chat`: a TOML file, `edge.toml`, and the flags that override it."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from runtime.errors import RequestError
from runtime.system.files import expand_user, read_bounded
from runtime.text import one_line, replace_surrogates

from .limits_section import LimitsSection
from .sections import (
    SECTIONS,
    ChatSection,
    ModelsSection,
    OptionsSection,
    ResponsesSection,
    SamplingSection,
    ServerSection,
    section_keys,
)
from .setting import check_bounds, has_nul, resolve_paths
from .tool_sections import McpSection, ToolsSection

MAX_BYTES = 32_000  # of a file: tomllib's time grows with the square of a key's number of parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings: those of the file `path`, with the command line's flags over it. `kiosk` is the table [kiosk] as it
    is."""

    path: str | None = None
    server: ServerSection = field(default_factory=ServerSection)
    models: ModelsSection = field(default_factory=ModelsSection)
    options: OptionsSection = field(default_factory=OptionsSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    sampling: SamplingSection = field(default_factory=SamplingSection)
    responses: ResponsesSection = field(default_factory=ResponsesSection)
    chat: ChatSection = field(default_factory=ChatSection)
    tools: ToolsSection = field(default_factory=ToolsSection)
    mcp: McpSection = field(default_factory=McpSection)
    kiosk: Mapping[str, Any] | None = None

    @classmethod
    def load(cls, path: str | None, flags: Mapping[str, Mapping[str, Any]] = {}) -> Self:
        """Load a file, or the defaults for None. `flags` are values by section and key, which replace those of the
        file. Raises RequestError for an unreadable file, an unknown section or key, or an invalid value."""
        tables = {} if path is None else _read_tables(path)
        where = f"{path}: " if path else ""
        for name, table in tables.items():
            if not isinstance(table, dict):
                homes = [section for section in SECTIONS if name in (key.name for key in section_keys(section))]
                raise RequestError(
                    f"{where}{one_line(name, 80)} is not a section",
                    hint=f"write it below [{homes[0] if homes else 'server'}]",
                )
            if name not in (*SECTIONS, "kiosk"):
                raise RequestError(f"{where}there is no section [{one_line(name, 80)}]", hint=_suggest(name, SECTIONS))
        sections = {name: _validate(name, tables.get(name, {}), flags.get(name, {}), path) for name in SECTIONS}
        return cls(path=path, **sections, kiosk=tables.get("kiosk"))


def _read_tables(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(read_bounded(expand_user(path), MAX_BYTES).decode("utf-8-sig"))
    except OSError as exc:
        raise RequestError(f"{path} cannot be read: {exc.strerror}", hint="pass the path of a TOML file") from exc
    except (ValueError, RecursionError) as exc:
        what = "it is nested too deeply" if isinstance(exc, RecursionError) else one_line(exc)
        raise RequestError(
            f"{path} is not TOML: {what}", hint="write lines such as port = 8000 under [server]"
        ) from exc


def _validate(section: str, table: Mapping[str, Any], flags: Mapping[str, Any], path: str | None) -> Any:
    """Return the section of the table's keys, with those of `flags` over them."""
    from pydantic import TypeAdapter, ValidationError

    keys = {key.name: key for key in section_keys(section)}
    where = f"{path}: [{section}] " if path else ""
    for name, value in table.items():
        if has_nul([name, value]):
            raise RequestError(f"{where}{one_line(name, 80)} has a NUL character", hint="write it without one")
    if section == "models":
        table = {name: table[name] for name in table if name in keys} | {
            "folders": {name: table[name] for name in table if name not in keys}
        }
    for name in table:
        if name not in (*keys, "folders"):
            raise RequestError(f"{where}there is no key {one_line(name, 80)}", hint=_suggest(name, keys))
    if path is not None:
        paths = {name: key.setting.path for name, key in keys.items() if key.setting.path}
        table = resolve_paths({"folders": True, **paths}, table, _folder(path))
    values = {**table, **flags}
    try:
        # Strict JSON has lists for tuples, unlike strict Python, and no bytes that are not Unicode, unlike paths.
        text = replace_surrogates(json.dumps(values, ensure_ascii=False, default=str))
        found: Any = TypeAdapter(SECTIONS[section]).validate_json(text, strict=True)
    except ValidationError as exc:
        name = str(exc.errors(include_url=False)[0]["loc"][0])
        if name == "folders":
            raise RequestError(f"{where}a model's folder must be a path", hint='write NAME = "FOLDER"') from exc
        key = keys[name]
        raise RequestError(f"{where}{name} must be {key.type_phrase}", hint=f"{name}: {key.setting.text}") from exc
    try:
        check_bounds(found)
        for resolve in ("options", "sampling"):
            getattr(found, resolve, tuple)()
    except RequestError as exc:
        raise RequestError(f"{where}{exc}", hint=exc.hint) from exc
    return replace(found, **{name: _to_tuples(value) for name, value in values.items() if _has_surrogates(value)})


def _has_surrogates(value: Any) -> bool:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return replace_surrogates(text) != text


def _to_tuples(value: Any) -> Any:
    match value:
        case list():
            return tuple(map(_to_tuples, value))
        case dict():
            return {name: _to_tuples(one) for name, one in value.items()}
    return value


def _folder(path: str) -> Path:
    return expand_user(path).absolute().parent


def _suggest(name: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
