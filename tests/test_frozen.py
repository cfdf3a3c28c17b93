"""Frozen applications: what our PyInstaller hook collects, and what an application without OpenVINO's plugins is told.

tests/environments/frozen.sh builds a real one.
"""

import re
import runpy
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

import pytest

from edge.__pyinstaller import get_hook_dirs
from runtime.backends.openvino.availability import _cpu_plugin
from runtime.backends.openvino.grammar import admission
from runtime.backends.openvino.process import client

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CHOOSE = """
import sys
sys.path[:0] = {path}
sys.modules.update({modules})
{frozen}
import edge
from runtime.backends.choose import choose
try:
    choose({device!r})
except edge.EdgeError as exc:
    print(exc, exc.hint, sep="\\n")
"""
PLUGINLESS = {
    "openvino/__init__.py": "class Core:\n    available_devices = ()\n",
    "openvino/libs/cache.json": "{}",
    "openvino_genai.py": "",
}
BROKEN = {"openvino.py": "raise ImportError('DLL load failed')"}
CASES = {  # files that precede the real packages, a module that is absent, whether the application is frozen, the error
    "no plugins": (
        PLUGINLESS,
        "",
        True,
        "the application was built without OpenVINO's plugins: .*cpu_plugin.* is miss",
    ),
    "a lost plugin": (PLUGINLESS, "", False, "OpenVINO's CPU plugin is missing: .*cpu_plugin"),
    "not installed": ({}, "openvino", False, "OpenVINO is not installed: openvino is missing"),
    "left out": ({}, "openvino_genai", True, "the application was built without openvino_genai"),
    "does not load": (BROKEN, "", False, "OpenVINO cannot be loaded: DLL load failed"),
}
CURES = {True: "--collect-all openvino_tokenizers", False: "install"}


@pytest.mark.parametrize("device", ["auto", "CPU"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_error_names_what_is_missing(tmp_path, case, device):
    present, absent, frozen, words = case
    for name, text in present.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    code = CHOOSE.format(
        path=[str(tmp_path), str(ROOT)],
        modules=dict.fromkeys(absent.split()),
        frozen="sys.frozen = True" if frozen else "",
        device=device,
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, hint = done.stdout.splitlines()
    assert re.match(words, message)
    assert CURES[frozen] in hint


def collect_dynamic_libs(package, search_patterns):
    """As PyInstaller has it: the libraries that match, and the folders for them."""
    folder = Path(find_spec(package).origin).parent
    found = {path for pattern in search_patterns for path in folder.rglob(pattern)}
    return [(str(path), path.parent.relative_to(folder.parent).as_posix()) for path in found]


def collect_data_files(package):
    folder = Path(find_spec(package).origin).parent
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    return [(str(path), path.parent.relative_to(folder.parent).as_posix()) for path in found]


def collect_submodules(package):
    return [module.name for module in walk_packages(import_module(package).__path__, f"{package}.")]


def test_the_hook_collects_what_is_loaded_by_name(monkeypatch):
    hooks = ModuleType("PyInstaller.utils.hooks")
    for function in (collect_data_files, collect_dynamic_libs, collect_submodules):
        setattr(hooks, function.__name__, function)
    for name in ("PyInstaller", "PyInstaller.utils", hooks.__name__):
        monkeypatch.setitem(sys.modules, name, hooks)
    (folder,) = get_hook_dirs()
    found = runpy.run_path(str(Path(folder) / "hook-edge.py"))
    names = " ".join(Path(path).name for path, _ in found["binaries"])
    for library in (_cpu_plugin(), "openvino_ir_frontend", "openvino_genai", "openvino_tokenizers"):
        assert library in names
    assert {path for _, path in found["binaries"]} >= {"openvino/libs", "openvino_genai"}
    assert {path for _, path in found["datas"]} >= {"edge/server/static", "edge/demo/checkpoint"}
    for entry in (client._ENTRY, admission._ENTRY):
        assert entry.partition(":")[0] in found["hiddenimports"]


def test_pyinstaller_finds_the_hook():
    module, _, function = PROJECT["entry-points"]["pyinstaller40"]["hook-dirs"].partition(":")
    assert getattr(import_module(module), function) is get_hook_dirs
