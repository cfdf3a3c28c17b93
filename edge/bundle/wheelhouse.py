"""The wheels of a bundle: our own, made of this installation or its checkout, and those that it needs, by pip."""

import base64
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path

from runtime.errors import RequestError
from runtime.text import one_line

from .platforms import PLATFORMS, python_version, this_platform

NAME = "glm4-edge"
_PACKAGES = ("edge", "convert", "runtime")
_BUILD = ("pyproject.toml", "README.md", "LICENSE")
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def download_wheels(folder: Path, platform: str, version: str, extras: Sequence[str]) -> Path:
    """Fill a folder with our wheel and all that it needs on that platform and version of Python. Return our wheel.
    Raises RequestError with pip's reason."""
    folder.mkdir()
    own = build_wheel(folder)
    target = PLATFORMS[platform]
    options = ["--dest", str(folder), "--only-binary", ":all:"]
    if (platform, version) != (this_platform(), python_version()):
        options += ["--python-version", version, "--implementation", "cp"]
        options += [word for tag in target.tags for word in ("--platform", tag)]
    wanted = f"{own}[{','.join(extras)}]" if extras else str(own)
    _run_pip("download", *options, wanted, *target.requirements)
    return own


def build_wheel(folder: Path) -> Path:
    """Make the wheel of this installation. Raises RequestError."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "pyproject.toml").is_file():
        return pack_installed(distribution(NAME), folder)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # a build leaves files in its folder
        source = Path(name)
        for file in _BUILD:
            shutil.copy(checkout / file, source)
        for package in _PACKAGES:
            shutil.copytree(checkout / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
        _run_pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("glm4_edge-*.whl")
    return wheel


def pack_installed(installed: Distribution, folder: Path) -> Path:
    """Make a wheel of the files of an installed one. Raises RequestError for an installation that is not of a wheel."""
    files = [
        file
        for file in installed.files or ()
        if file.parts[0] != ".." and file.suffix != ".pyc" and file.name not in ("RECORD", "INSTALLER", "REQUESTED")
    ]
    infos = {file.parts[0] for file in files if file.parts[0].endswith(".dist-info")}
    if len(infos) != 1:
        raise RequestError(
            "this installation is not of a wheel: it cannot be packed", hint="run `edge bundle` from a checkout"
        )
    (info,) = infos
    path = folder / f"{info.removesuffix('.dist-info')}-py3-none-any.whl"
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            if file.name == "direct_url.json":  # where it was installed from
                continue
            data = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{file.as_posix()},sha256={digest},{len(data)}")
            archive.writestr(file.as_posix(), data)
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return path


def _run_pip(*words: str) -> None:
    done = subprocess.run(
        (*_PIP, *words, "--quiet"), capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or done.stderr.splitlines()
    reason = one_line(lines[-1].removeprefix("ERROR: ") if lines else "no reason", 300)
    if "No module named pip" in done.stderr:
        raise RequestError("pip is not installed here, which fetches the wheels", hint="python -m ensurepip")
    raise RequestError(
        f"the wheels cannot be fetched: {reason}", hint="check the network, --platform and --python, and run it again"
    )
