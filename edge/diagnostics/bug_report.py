"""The report of `edge doctor --report FILE`: one file that says what a maintainer needs to know, and nothing personal.

Every fact in it is named here: versions, processors, devices and drivers, memory and disks, settings as numbers and
choices, model folders by their manifests, the log without its words. There are no paths, names, addresses, keys,
prompts or replies. Strings of settings are told as "set".
"""

import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_origin

from runtime.device.machine import Machine
from runtime.errors import RequestError
from runtime.folder.compile_cache import compiled_root
from runtime.folder.manifest import Manifest
from runtime.folder.model_folder import ModelFolder
from runtime.system.files import expand_user, write_atomically
from runtime.version import VERSION

from ..catalogue import CATALOGUE
from ..config.sections import SECTIONS, section_keys
from ..config.setting import SettingKey
from ..config.settings_file import Config
from ..server.logs.log_file import default_path
from .kept_data import find_data
from .log_lines import last_lines
from .redaction import Redactor

_PACKAGES = (
    "openvino openvino-genai openvino-tokenizers nncf torch transformers tokenizers safetensors huggingface-hub numpy "
    "starlette uvicorn mcp pydantic jinja2 llguidance psutil rich platformdirs intel-extension-for-pytorch"
).split()
_PREFIXES = ("EDGE_", "OV_", "OPENVINO_", "HF_", "MODELSCOPE_", "ONEDNN_", "OMP_", "CUDA_", "PYTHON", "LC_")
_NAMES = ("LANG", "NO_COLOR", "TERM", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "TMPDIR", "TEMP")
_DEVICE = re.compile(r"(auto|cpu|gpu|npu|torch|ipex)([.:](\d+|cpu|cuda|xpu))*", re.IGNORECASE)


def write_report(
    file: str, machine: Machine, facts: Mapping[str, Any], folder: ModelFolder | None = None, config: str | None = None
) -> Path:
    """Write the report to a new file, for its owner alone, and return its path. `facts` are those of `edge doctor` on
    the model folder; `config` is the settings file. Raises RequestError, also if the file exists."""
    path = expand_user(file)
    if os.path.lexists(path):
        raise RequestError(f"{file} exists already", hint="choose another name for the report")
    report = Redactor().redact(collect(machine, facts, folder, config))
    try:
        write_atomically(path, f"{json.dumps(report, indent=2)}\n".encode(), private=True)
    except OSError as exc:
        raise RequestError(f"{file} cannot be written: {exc.strerror}", hint="choose another place") from exc
    return path


def collect(
    machine: Machine, facts: Mapping[str, Any], folder: ModelFolder | None = None, config: str | None = None
) -> dict[str, Any]:
    """Return the report as JSON values."""
    report: dict[str, Any] = {
        "report": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "system": _system(),
        "machine": asdict(replace(machine, servers=())) | {"servers": len(machine.servers)},
        "disks": _disks(folder),
        "environment": sorted(name for name in os.environ if name.startswith(_PREFIXES) or name.upper() in _NAMES),
        "settings": _settings(Config.load(config)) if config else None,
        "kept": {data.kind.name: {"bytes": data.size, "files": data.files} for data in find_data()},
        "log": [],
    }
    if folder is not None:
        report["model"] = _model(folder.manifest)
        report["fits"] = facts.get("fits")
    with suppress(RequestError):
        report["log"] = last_lines(default_path())
    return report


def _versions() -> dict[str, str]:
    found = {"glm4-edge": VERSION, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _system() -> dict[str, Any]:
    return {
        "platform": sys.platform,
        "release": platform.release(),
        "version": platform.version(),
        "machine": platform.machine(),
        "implementation": platform.python_implementation(),
        "64 bit": sys.maxsize > 2**32,
        "frozen": bool(getattr(sys, "frozen", False)),
        "virtual environment": sys.prefix != sys.base_prefix,
        "utf8 mode": bool(sys.flags.utf8_mode),
        "file system encoding": sys.getfilesystemencoding(),
        "output encoding": getattr(sys.stdout, "encoding", None),
        "logical cores": os.cpu_count(),
    }


def _disks(folder: ModelFolder | None) -> dict[str, dict[str, int]]:
    """Return the total and free bytes of the disks of the folders that are used: current, temporary, cache, model."""
    places: dict[str, Path] = {"current": Path.cwd()}
    with suppress(OSError):
        places["temporary"] = Path(tempfile.gettempdir())
    with suppress(RequestError):
        places["cache"] = next((path for path in compiled_root().parents if path.is_dir()), Path.cwd())
    if folder is not None:
        places["model"] = folder.path
    found = {}
    for name, path in places.items():
        with suppress(OSError):
            usage = shutil.disk_usage(path)
            found[name] = {"total": usage.total, "free": usage.free}
    return found


def _settings(config: Config) -> dict[str, Any]:
    """Return the settings that differ from their defaults: numbers and choices as they are, texts as "set"."""
    found: dict[str, Any] = {}
    for section in SECTIONS:
        values = getattr(config, section)
        for key in section_keys(section):
            value = getattr(values, key.name)
            if value != key.default:
                found[f"{section}.{key.name}"] = _told(value, key)
    found["models.folders"] = len(config.models.folders)
    found["kiosk"] = config.kiosk is not None
    return found


def _told(value: Any, key: SettingKey) -> Any:
    if get_origin(key.kind) is Literal or value is None or isinstance(value, bool | int | float):
        return value
    if key.name == "device" and isinstance(value, str) and _DEVICE.fullmatch(value):
        return value
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        return f"{len(value)} set"
    return "set"


def _model(manifest: Manifest) -> dict[str, Any]:
    """Return what a manifest says, without its prompts, hashes, and names that its owner chose."""
    published = {name.rpartition("/")[2].lower() for name in CATALOGUE}
    name = manifest.source.name
    return {
        "name": name if name.lower() in published else "(not a published one)",
        "architecture": manifest.source.architecture,
        "family": manifest.family,
        "recipe": manifest.recipe,
        "task": manifest.task,
        "paged": manifest.paged,
        "context length": manifest.context_length,
        "kv bytes per token": manifest.kv_bytes_per_token,
        "sizes": asdict(manifest.sizes) if manifest.sizes else None,
        "versions": dict(manifest.versions),
        "verification": dict(manifest.verification),
        "adapters": len(manifest.adapters),
        "vision": manifest.vision.tower if manifest.vision else None,
        "format version": manifest.format_version,
        "files": sorted(record.size for record in manifest.files.values()),
    }
