"""The origin of this installation, and the command that installs an extra the same way.

pip and uv record where an installation came from in direct_url.json, unless it came from an index; see PEP 610 and
https://packaging.python.org/en/latest/specifications/direct-url-data-structure/
"""

import json
import os
import shlex
import shutil
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..version import VERSION

if TYPE_CHECKING:
    from importlib.metadata import Distribution

NAME = "glm4-edge"
_ROOT = Path(__file__).resolve().parents[2]  # the folder of this copy's packages
_SHELL_CHARACTERS = frozenset('"$`\\!')  # special to a POSIX shell within double quotes


def install_hint(extra: str = "") -> str:
    """Return the hint of an error about packages that are missing: how to install this copy, with an extra."""
    needed = f"glm4-edge's extra [{extra}]" if extra else NAME
    if getattr(sys, "frozen", False):
        return f"build the application in an environment with {needed}"
    found = _find_distribution()
    if found is None and not _is_source_tree():
        return f"install the packages of {needed}"
    source = {"url": _ROOT.as_uri(), "dir_info": {"editable": True}} if found is None else _direct_url(found)
    return f"{_install_command()} {_requirement(source, f'[{extra}]' if extra else '')}"


def _install_command() -> str:
    """Return `pip install`, or `uv pip install` where uv has installed this copy, for this Python's environment."""
    python = Path(sys.executable)
    found = _find_distribution()
    if found is not None and (found.read_text("INSTALLER") or "").strip() == "uv":
        active = os.environ.get("VIRTUAL_ENV") == sys.prefix
        return "uv pip install" if active else f"uv pip install --python {_quote(str(python))}"
    pip = shutil.which("pip")
    if pip and Path(pip).parent in (python.parent, python.parent / "Scripts"):
        return "pip install"
    # PowerShell takes a quoted program for a text.
    return f"{_quote(str(python)) if ' ' in str(python) else python} -m pip install"


def _find_distribution() -> "Distribution | None":
    """Return the metadata of this copy, whichever others are installed; None if it has none, as a source tree."""
    from importlib.metadata import distributions

    for found in distributions(name=NAME):
        source = _direct_url(found)
        if source.get("dir_info", {}).get("editable"):
            folder = _local_path(source)
        else:  # a source tree may have metadata of a build, without an installer
            folder = Path(str(found.locate_file(""))) if found.read_text("INSTALLER") else None
        if folder is not None and folder.resolve() == _ROOT:
            return found
    return None


def _is_source_tree() -> bool:
    try:
        settings = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(settings.get("project", {}).get("name") == NAME)  # and not of a project that has ours in its own tree


def _direct_url(found: "Distribution") -> dict[str, Any]:
    text = found.read_text("direct_url.json")
    source: dict[str, Any] = json.loads(text) if text else {}
    return source


def _requirement(source: Mapping[str, Any], extra: str) -> str:
    """Return what to install, with an extra such as "[serve]" or "", quoted for sh, cmd and PowerShell alike."""
    path = _local_path(source)
    if path is not None and not path.exists():
        return f'"SOURCE{extra}", where SOURCE is the folder or the wheel of glm4-edge {VERSION}'
    match source:
        case {"dir_info": {"editable": True}}:
            return f"-e {_quote(f'{path}{extra}')}"
        case {"dir_info": _}:
            return _quote(f"{path}{extra}")
        case {"url": url, "vcs_info": {"vcs": vcs, "commit_id": commit}}:
            folder = f"#subdirectory={source['subdirectory']}" if "subdirectory" in source else ""
            return _quote(f"{NAME}{extra} @ {vcs}+{url}@{commit}{folder}")
        case {"url": url}:
            return _quote(f"{NAME}{extra} @ {url}")
    return _quote(f"{NAME}{extra}")


def _local_path(source: Mapping[str, Any]) -> Path | None:
    """Return the folder or file of a file: URL. A repository's URL is left to its version control."""
    url = urlsplit(source.get("url", ""))
    if url.scheme != "file" or "vcs_info" in source:
        return None
    return Path(url2pathname(f"//{url.netloc}{url.path}" if url.netloc else url.path))


def _quote(word: str) -> str:
    if os.name == "posix" and _SHELL_CHARACTERS & set(word):
        return shlex.quote(word)
    return f'"{word}"'
