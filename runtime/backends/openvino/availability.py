"""Why OpenVINO has no device at all: it is not installed, does not load, or its plugins are missing."""

import platform
import sys
from importlib.util import find_spec
from pathlib import Path

from ...errors import DeviceError
from ...system.installation import install_hint
from ...text import one_line

_PACKAGES = ("openvino", "openvino_genai")
_REINSTALL = "install it again: pip install --force-reinstall openvino openvino-genai openvino-tokenizers"
_BUILD = (
    "build it with PyInstaller's options --collect-all openvino --collect-all openvino_genai "
    "--collect-all openvino_tokenizers, or add all files of these packages"
)


def unavailable_error() -> DeviceError:
    """Return the error for OpenVINO without any device, not even the CPU, which every machine has."""
    frozen = getattr(sys, "frozen", False)
    cure = _BUILD if frozen else _REINSTALL
    if missing := [name for name in _PACKAGES if sys.modules.get(name, name) is None or find_spec(name) is None]:
        if frozen:
            return DeviceError(f"the application was built without {', '.join(missing)}", hint=cure)
        return DeviceError(f"OpenVINO is not installed: {', '.join(missing)} is missing", hint=install_hint())
    try:
        import openvino
        import openvino_genai  # noqa: F401
    except ImportError as exc:
        return DeviceError(f"OpenVINO cannot be loaded: {one_line(str(exc))}", hint=cure)
    plugin = Path(openvino.__file__).parent / "libs" / _cpu_plugin()
    if plugin.parent.is_dir() and plugin.exists():
        return DeviceError("OpenVINO finds no device, not even the CPU", hint="`edge doctor` reports what it finds")
    if frozen:
        return DeviceError(f"the application was built without OpenVINO's plugins: {plugin} is missing", hint=cure)
    return DeviceError(f"OpenVINO's CPU plugin is missing: {plugin}", hint=cure)


def _cpu_plugin() -> str:
    """Return the file name of the CPU plugin."""
    vendor = "arm" if platform.machine().lower() in ("arm64", "aarch64") else "intel"
    name = f"openvino_{vendor}_cpu_plugin"
    return f"{name}.dll" if sys.platform == "win32" else f"lib{name}.so"
