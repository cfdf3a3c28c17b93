"""Flags for the settings of `edge.toml`: those that a person types are in `--help`, the others are accepted."""

import argparse
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from runtime.errors import RequestError
from runtime.text import quoted

from ..config.sections import section_keys
from ..config.setting import SettingKey, resolve_paths
from ..config.settings_file import Config
from .numbers import integer, number

Flags = dict[str, dict[str, Any]]  # values by section and key


def add_settings(
    verb: argparse.ArgumentParser, sections: Sequence[str], shown: Collection[str], without: Collection[str] = ()
) -> None:
    """Add a flag for each key of these sections but those in `without`, and `--config`. Those in `shown` come first, in
    that order; of the others, the help has the names alone."""
    keys = {key.flag: key for section in sections for key in section_keys(section) if key.flag not in without}
    for flag in shown:
        _add(verb, keys.pop(flag), shown=True)
    verb.add_argument("--config", metavar="FILE", help="a TOML file with the settings (default: none)")
    for key in keys.values():
        _add(verb, key, shown=False)
    further = f"Every key of edge.toml is a flag, too, and wins over the file. The others are {', '.join(keys)}."
    verb.epilog = f"{further}\n\n{verb.epilog}"


def read_flags(args: argparse.Namespace) -> Flags:
    """Return the values of the settings' flags that were passed."""
    found: Flags = {}
    for name, value in vars(args).items():
        section, dot, key = name.partition(".")
        if dot and value is not None:
            found.setdefault(section, {})[key] = value
    return found


def load_config(args: argparse.Namespace) -> Config:
    """Load the file that `--config` names, with the flags over it. Raises RequestError."""
    return Config.load(args.config, read_flags(args))


def flag_words(args: argparse.Namespace) -> list[str]:
    """Return the settings' flags that were passed as words of another command line, their paths absolute."""
    words = []
    for section, values in read_flags(args).items():
        keys = {key.name: key for key in section_keys(section)}
        paths = {name: keys[name].setting.path for name in values if keys[name].setting.path}
        for name, value in resolve_paths(paths, values, Path.cwd()).items():
            flag = keys[name].flag
            match value:
                case bool():
                    words.append(flag if value else flag.replace("--", "--no-", 1))
                case dict():
                    words += [word for pair in _pairs(value) for word in (flag, pair)]
                case list():
                    words += [word for one in value for word in (flag, one)]
                case "":
                    words.append(flag)
                case _:
                    words += [flag, str(value)]
    return words


def _pairs(values: Mapping[str, str | list[str]]) -> Iterator[str]:
    for name, value in values.items():
        for one in [value] if isinstance(value, str) else value:
            yield f"{name}={one}" if one else name


def _add(verb: argparse.ArgumentParser, key: SettingKey, *, shown: bool) -> None:
    setting = key.setting
    text = f"{setting.text}{'; may be repeated' if get_origin(key.kind) in (tuple, dict) else ''}"
    options: dict[str, Any] = {
        "dest": f"{key.section}.{key.name}",
        "help": f"{text} (default: {key.default_text})".replace("%", "%%") if shown else argparse.SUPPRESS,
    }
    if key.kind is bool:
        verb.add_argument(key.flag, action=argparse.BooleanOptionalAction, **options)
        return
    options["metavar"] = setting.metavar
    if get_origin(key.kind) is tuple:
        options["action"] = "append"
    elif get_origin(key.kind) is dict:
        several = get_args(key.kind)[1] is not str
        options |= {"action": _AppendNamed, "type": _named(key), "const": several}
    elif get_origin(key.kind) is Literal:
        options["choices"] = get_args(key.kind)
    elif key.kind in (int, float):
        options["type"] = _number(key)
    if setting.bare and key.kind is str:
        options |= {"nargs": "?", "const": ""}
    verb.add_argument(key.flag, **options)


def _number(key: SettingKey) -> Callable[[str], float]:
    least, most = key.setting.least, key.setting.most
    if key.kind is int:
        return integer(key.flag, int(least or 0), None if most is None else int(most))
    return number(key.flag, least or 0, most)


def _named(key: SettingKey) -> Callable[[str], tuple[str, str]]:
    """Return a `type` for argparse: NAME=VALUE as a pair. It raises RequestError."""

    def parse(text: str) -> tuple[str, str]:
        name, equals, value = text.partition("=")
        if not name or not (value or (key.setting.bare and not equals)):
            raise RequestError(
                f"{key.flag} {quoted(text)} has no name for clients", hint=f"write it as {key.setting.metavar}"
            )
        return name, value

    return parse


class _AppendNamed(argparse.Action):
    """Collect NAME=VALUE in a dict; if `const` is true, the values of a name in a list."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add the pair that was parsed."""
        name, value = values
        found = dict(getattr(namespace, self.dest) or {})
        found[name] = [*found.get(name, ()), value] if self.const else value
        setattr(namespace, self.dest, found)
