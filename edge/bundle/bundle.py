"""An offline bundle: wheels, a model, licences, a kiosk's settings, a unit, and installers that need no network."""

import os
import secrets
import shutil
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

from runtime.device.memory import format_bytes
from runtime.errors import DiskFull, RequestError
from runtime.folder.model_folder import MANIFEST, ModelFolder, file_sha256
from runtime.system.files import expand_user, remove, write_atomically
from runtime.version import VERSION

from .. import service
from ..catalogue import licence_duties
from ..inspection import inspect
from ..server.page.kiosk import Kiosk
from ..server.pool.model_names import folder_name
from . import scripts
from .platforms import PLATFORMS, python_version, this_platform
from .wheelhouse import download_wheels

EXTRAS = ("serve",)
_WHEEL_BYTES = 600_000_000  # more than OpenVINO and the rest take
_VERSIONS = ("3.11", "3.12", "3.13")


def bundle(
    out: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    platform: str | None = None,
    python: str | None = None,
    kiosk: str | os.PathLike[str] | None = None,
) -> Path:
    """Make a folder from which a machine without a network installs glm4-edge and a model; the same as `edge bundle`.

    `model` is a model folder, whose hashes are checked. `platform` is linux-x86_64, windows-x86_64 or macos-arm64,
    `python` the version there, such as "3.12"; by default, both are this machine's. `kiosk` is a kiosk's settings. The
    wheels are downloaded, as pip is configured here. `out` must not exist yet, and appears when it is complete.

    Raises ModelFolderError, DiskFull or RequestError.
    """
    target = expand_user(out).absolute()
    platform, python = platform or this_platform(), python or python_version()
    if target.exists() or target.is_symlink():
        raise RequestError(f"{target} exists", hint="choose another name, or remove it")
    if platform not in PLATFORMS:
        raise RequestError(f"there is no platform {platform}", hint=f"choose one of {', '.join(PLATFORMS)}")
    if python not in _VERSIONS:
        raise RequestError(f"glm4-edge does not run on Python {python}", hint=f"choose one of {', '.join(_VERSIONS)}")
    if kiosk is not None:
        Kiosk.load(str(expand_user(kiosk)))
    folder = ModelFolder.open(model)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
    except OSError as exc:
        raise RequestError(f"{target} cannot be written: {exc.strerror}", hint="choose another folder") from exc
    if free < (needed := folder.size + _WHEEL_BYTES):
        raise DiskFull(
            f"the bundle needs {format_bytes(needed)}, and {target.parent} has {format_bytes(free)} left",
            hint="make room, or choose a folder on another disk",
        )
    inspect(folder.path)
    scratch = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        scratch.mkdir()
        _fill(scratch, folder, platform, python, kiosk)
        scratch.rename(target)
    except OSError as exc:
        raise RequestError(
            f"{target} cannot be written: {exc.strerror or exc}", hint="make room, or choose another folder"
        ) from exc
    finally:
        remove(scratch)
    return target


def _fill(out: Path, folder: ModelFolder, platform: str, python: str, kiosk: str | os.PathLike[str] | None) -> None:
    name = folder_name(folder.path)
    download_wheels(out / "wheels", platform, python, EXTRAS)
    copied = out / "models" / name
    copied.mkdir(parents=True)
    for file in (*folder.manifest.files, MANIFEST):
        shutil.copyfile(folder.path / file, copied / file)
    ModelFolder.open(copied).verify()
    text = expand_user(kiosk).read_text(encoding="utf-8") if kiosk else scripts.KIOSK
    duties = licence_duties(folder.manifest)
    _copy_licences(out / "licences", copied, duties)
    facts = {
        "model": name,
        "platform": platform,
        "version": python,
        "version_tuple": python.replace(".", ", "),
        "extras": ",".join(EXTRAS),
        "own_version": VERSION,
        "duties": f"Built with glm-4. {duties}." if duties else "",
    }
    unit = service.describe_service(("models/" + name, "--kiosk", "kiosk.toml"), "linux").text
    for file_name, content in {
        "kiosk.toml": text,
        "install.sh": scripts.INSTALL_SH.format(**facts),
        "install.ps1": scripts.INSTALL_PS1.format(**facts),
        "README.md": scripts.README.format(**facts),
        f"{service.NAME}.service": "# An example: `edge service install` writes the paths of the machine.\n" + unit,
    }.items():
        write_atomically(out / file_name, content.encode())
    (out / "install.sh").chmod(0o755)
    sums = [f"{file_sha256(path)}  {path.relative_to(out).as_posix()}\n" for path in sorted(_files(out))]
    write_atomically(out / "SHA256SUMS", "".join(sums).encode())


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _copy_licences(folder: Path, model: Path, duties: str) -> None:
    """Collect the licences of glm4-edge, of the model, and what the model's obliges to. Those of other packages are in
    their wheels."""
    folder.mkdir()
    for licence in model.glob("LICENSE*"):
        shutil.copyfile(licence, folder / f"model-{licence.name}")
    checkout = Path(__file__).resolve().parents[2]
    ours = [checkout / "LICENSE"] if (checkout / "pyproject.toml").is_file() else _installed_licences()
    for licence in ours:
        shutil.copyfile(licence, folder / f"glm4-edge-{licence.name}")
    if duties:
        write_atomically(folder / "NOTICE.txt", f"Built with glm-4\n\n{duties}.\n".encode())


def _installed_licences() -> list[Path]:
    files = [file for one in distributions(name=service.NAME) for file in one.files or ()]
    found = [Path(str(file.locate())) for file in files if file.name.startswith("LICENSE")]
    return [path for path in found if path.is_file()]  # a source distribution in the current folder lists more
