"""The description of a setting: a key of `edge.toml`, of which its flag and its documentation are made.

A section of the file is a frozen dataclass whose fields are `Annotated[TYPE, Setting(…)] = DEFAULT`.
"""

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from runtime.checks import require_integer, require_number
from runtime.errors import RequestError
from runtime.system.files import expand_user


@dataclass(frozen=True, slots=True)
class Setting:
    """What a setting means, and what it accepts.

    `text` describes it as `--help` does; `default` says in words what happens without it. `metavar` stands for its
    value. A number is from `least` to `most`. With `path`, its texts are paths, relative to the file; if `path` is a
    suffix, those that end with it and are no command line. With `bare`, the value, or that of a name, may be left out;
    it is then "". The flag is named as the key, or `flag`.
    """

    text: str
    metavar: str = "N"
    default: str = ""
    least: float | None = None
    most: float | None = None
    path: bool | str = False
    bare: bool = False
    flag: str = ""


class SettingKey(NamedTuple):
    """A key of a section: its type without None, its default, and its description."""

    section: str
    name: str
    kind: Any
    default: Any
    setting: Setting

    @property
    def flag(self) -> str:
        """The flag that sets the key."""
        return self.setting.flag or f"--{self.name.replace('_', '-')}"

    @property
    def default_text(self) -> str:
        """The default in words."""
        if self.setting.default or self.default in (None, (), {}, ""):
            return self.setting.default or "none"
        return str(self.default).lower() if isinstance(self.default, bool) else str(self.default)

    @property
    def type_text(self) -> str:
        """The type as a reader of TOML knows it."""
        if get_origin(self.kind) is Literal:
            return " or ".join(f'"{one}"' for one in get_args(self.kind))
        what = "path" if self.setting.path is True else "string"
        if get_origin(self.kind) is tuple:
            return f"list of {what}s"
        if get_origin(self.kind) is dict:
            return f"table of {what}s"
        return {str: what, int: "integer", float: "number", bool: "boolean"}[self.kind]

    @property
    def type_phrase(self) -> str:
        """The type with its article."""
        text = self.type_text
        return text if text.startswith('"') else f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def list_keys(section: str, model: type) -> tuple[SettingKey, ...]:
    """Return the keys of a section: its fields that are annotated with a Setting."""
    hints = get_type_hints(model, include_extras=True)
    found = []
    for field in fields(model):
        if get_origin(hints[field.name]) is not Annotated:
            continue
        kind, setting = get_args(hints[field.name])
        options = [option for option in get_args(kind) if option is not type(None)]
        if type(None) in get_args(kind):
            (kind,) = options
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        found.append(SettingKey(section, field.name, kind, default, setting))
    return tuple(found)


def check_bounds(section: Any) -> None:
    """Raise RequestError for a number of the section that is out of its bounds."""
    for name, hint in get_type_hints(type(section), include_extras=True).items():
        if get_origin(hint) is Annotated:
            check_number(name, getattr(section, name), get_args(hint)[1])


def check_number(name: str, value: Any, setting: Setting) -> None:
    """Raise RequestError if the value is a number that is out of the setting's bounds; `name` is for the message."""
    least, most = setting.least, setting.most
    if least is None or value is None:
        return
    if isinstance(value, int) and least == int(least):
        require_integer(name, value, int(least), None if most is None else int(most))
        return
    require_number(name, value)
    if value < least or (most is not None and value > most):
        allowed = f"{least:g} or more" if most is None else f"{least:g} to {most:g}"
        raise RequestError(f"{name} is {value:g}", hint=f"it may be {allowed}")


def resolve_paths(paths: Mapping[str, bool | str], table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a section's table with relative paths made absolute, from `folder` on. `paths` has the keys that have
    any, as `Setting.path` describes them."""
    return {name: _resolve(value, folder, paths[name]) if name in paths else value for name, value in table.items()}


def has_nul(value: Any) -> bool:
    """Return whether a text among the values of a table has a NUL character, which no path or name can have."""
    match value:
        case str():
            return "\0" in value
        case list():
            return any(map(has_nul, value))
        case dict():
            return any(map(has_nul, (*value, *value.values())))
    return False


def _resolve(value: Any, folder: Path, suffix: bool | str) -> Any:
    match value:
        case str():
            path = folder / expand_user(value)
            if isinstance(suffix, str) and not (value.endswith(suffix) and (" " not in value or path.exists())):
                return value
            return os.path.normpath(path) if value else value
        case list():
            return [_resolve(item, folder, suffix) for item in value]
        case dict():
            return {name: _resolve(item, folder, suffix) for name, item in value.items()}
    return value  # of a wrong type, which is rejected later
