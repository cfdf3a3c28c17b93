"""The CPU settings that `edge bench FOLDER --tune` found to be the fastest, for each model on this machine.

Each is a JSON file in the user's cache. Its name depends on the model's files, the processor, OpenVINO's version and
whether the int4 kernel is built: what was measured without it would keep it from being used.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .. import strict_json
from ..errors import EdgeError, Notice
from ..folder.compile_cache import cache_root
from ..folder.model_folder import ModelFolder
from ..source import ModelSource
from ..system.files import is_plain_file, read_bounded, write_atomically
from ..system.user_folders import make_private
from .backend import Options
from .choose import DeviceChoice

TUNED = ("threads", "pinning", "cores", "activation_group")  # the options that may be tuned
_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class TunedSettings:
    """Options by name, for a model on a machine. `gain` is the part of its time by which it became faster; without
    `settings`, nothing was faster than the engine's own."""

    model: str
    machine: str
    openvino: str
    settings: Mapping[str, Any]
    gain: float = 0.0

    def apply(self, options: Options) -> Options:
        """Return the options with these settings, but for those that are set. Raises RequestError for a value that is
        not valid."""
        return replace(options, **{name: value for name, value in self.settings.items() if is_free(options, name)})

    def __str__(self) -> str:
        values = ", ".join(f"{name} = {value}" for name, value in self.settings.items())
        return f"tuned by `edge bench --tune`: {values}"


def is_free(options: Options, name: str) -> bool:
    """Return whether an option is left to the engine."""
    return getattr(options, name) is None


def tuned_root() -> Path:
    """Return the folder of tuned settings. Raises RequestError as `cache_root` does."""
    return cache_root() / "tuned"


def apply_tuned_settings(choice: DeviceChoice, source: ModelSource, options: Options) -> tuple[DeviceChoice, Options]:
    """Return the choice, whose reason tells of tuned settings, and the options with them, if there are any."""
    folder = source.model_folder
    if not options.tuned or choice.device != "CPU" or folder is None:
        return choice, options
    found = find_tuned_settings(folder)
    if found is None or (applied := found.apply(options)) == options:
        return choice, options
    return replace(choice, reason=f"{choice.reason}; {found}"), applied


def find_tuned_settings(folder: ModelFolder) -> TunedSettings | None:
    """Return the settings kept for a model on this machine; None if there are none, or, with a Notice, if the file is
    not valid."""
    try:
        root = tuned_root()
    except EdgeError:
        return None
    if not root.is_dir():
        return None
    expected = describe(folder)
    path = root / _name(expected)
    if not os.path.lexists(path):
        return None
    try:
        found = _read(path)
        if replace(found, settings={}, gain=0.0) != expected:
            raise ValueError("it is of another model or machine")
        found.apply(Options())
    except (OSError, ValueError, TypeError, EdgeError) as exc:
        warnings.warn(
            f"the tuned settings in {path} are ignored: {exc}; `edge bench --tune` makes them anew",
            Notice,
            stacklevel=2,
        )
        return None
    return found


def keep_tuned_settings(found: TunedSettings) -> Path:
    """Write the settings, and return their file. Raises RequestError or OSError if that is not possible."""
    path = make_private(tuned_root()) / _name(found)
    write_atomically(path, json.dumps(asdict(found), indent=2).encode(), private=True)
    return path


def describe(folder: ModelFolder) -> TunedSettings:
    """Return a record for a model on this machine, without settings."""
    import openvino
    import psutil  # type: ignore[import-untyped]

    from .openvino.int4.library import find_library

    name = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    cores = f"{psutil.cpu_count(logical=False)} cores, {psutil.cpu_count()} threads"
    files = {name: file.sha256 for name, file in folder.manifest.files.items() if name.startswith("openvino_model")}
    model = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    kernel = ", int4 kernel" if find_library() else ""
    return TunedSettings(model, f"{name}, {cores}{kernel}", openvino.get_version(), {})


def _read(path: Path) -> TunedSettings:
    """Read a file. Raises OSError, or ValueError for one that is not ours."""
    if not is_plain_file(path):
        raise ValueError("it is no file")
    content = strict_json.parse(read_bounded(path, _MAX_BYTES))
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    found = TunedSettings(**content)
    if not isinstance(found.settings, dict) or not set(found.settings) <= set(TUNED):
        raise ValueError("its settings are unknown")
    if not isinstance(found.gain, int | float):
        raise ValueError("its gain is no number")
    return found


def _name(found: TunedSettings) -> str:
    what = json.dumps([found.model, found.machine, found.openvino])
    return f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"
