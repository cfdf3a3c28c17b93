"""The hint that names a missing extra is a command that installs it, however this copy came to be there."""

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from runtime.system import installation
from runtime.system.installation import install_hint
from runtime.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
GIT = {"url": "https://git.example/glm4-edge.git", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}
SOURCES = {  # direct_url.json, in which HERE is a folder that exists, and the command's last part
    "an index": (None, '"glm4-edge[serve]"'),
    "a folder": ({"url": "HERE/a%20clone", "dir_info": {}}, '"PATH/a clone[serve]"'),
    "a folder, as old pips record it": ({"url": "HERE", "dir_info": {"editable": False}}, '"PATH[serve]"'),
    "a folder that has gone": (
        {"url": "HERE/gone", "dir_info": {}},
        f'"SOURCE[serve]", where SOURCE is the folder or the wheel of glm4-edge {VERSION}',
    ),
    "a repository": (GIT, '"glm4-edge[serve] @ git+https://git.example/glm4-edge.git@0123abc"'),
    "a folder of a repository": (
        GIT | {"subdirectory": "python"},
        '"glm4-edge[serve] @ git+https://git.example/glm4-edge.git@0123abc#subdirectory=python"',
    ),
    "a repository on this machine": (
        GIT | {"url": "file:///nowhere"},
        '"glm4-edge[serve] @ git+file:///nowhere@0123abc"',
    ),
    "a wheel": (
        {"url": "HERE/glm4_edge-0.1.0-py3-none-any.whl", "archive_info": {}},
        '"glm4-edge[serve] @ HERE/glm4_edge-0.1.0-py3-none-any.whl"',
    ),
    "a wheel's URL": (
        {"url": "https://files.example/a.whl", "archive_info": {"hash": "sha256=0"}},
        '"glm4-edge[serve] @ https://files.example/a.whl"',
    ),
}


@pytest.fixture
def site(monkeypatch, tmp_path):
    """A folder of installed packages that is first on the import path, and the folder of this copy."""
    for name in ("a clone", "glm4_edge-0.1.0-py3-none-any.whl"):
        (tmp_path / name).mkdir()
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.setattr(sys, "path", [str(place)])
    monkeypatch.setattr(installation, "_ROOT", place)
    monkeypatch.setattr(installation, "_install_command", lambda: "pip install")
    return place


def installed(site, source, installer="pip\n"):
    information = site / f"glm4_edge-{VERSION}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: glm4-edge\nVersion: {VERSION}\n")
    if installer:
        (information / "INSTALLER").write_text(installer)
    if source:
        (information / "direct_url.json").write_text(json.dumps(source).replace("HERE", site.parent.as_uri()))


@pytest.mark.parametrize(("source", "command"), SOURCES.values(), ids=SOURCES)
def test_an_extra_is_installed_as_this_copy_was(site, source, command):
    installed(site, source)
    expected = command.replace("HERE", site.parent.as_uri()).replace("PATH", str(site.parent))
    assert install_hint("serve") == f"pip install {expected}"


def test_the_copy_itself_is_installed_without_an_extra(site):
    installed(site, GIT)
    assert install_hint() == 'pip install "glm4-edge @ git+https://git.example/glm4-edge.git@0123abc"'


def test_an_editable_copy(site, monkeypatch):
    installed(site, {"url": "HERE/a%20clone", "dir_info": {"editable": True}})
    assert install_hint("serve") == "install the packages of glm4-edge's extra [serve]"  # this is another copy
    monkeypatch.setattr(installation, "_ROOT", site.parent / "a clone")
    assert install_hint("serve") == f'pip install -e "{site.parent / "a clone"}[serve]"'


@pytest.mark.parametrize("name", ["glm4-edge", "another"])
def test_a_source_tree_that_is_not_installed(site, name):
    """Of another project, ours may be a part; a build leaves metadata without an installer."""
    installed(site, None, installer="")
    (site / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    ours = f'pip install -e "{site}[serve]"'
    assert install_hint("serve") == (
        ours if name == "glm4-edge" else "install the packages of glm4-edge's extra [serve]"
    )


def test_a_frozen_application(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert install_hint("serve") == "build the application in an environment with glm4-edge's extra [serve]"


@pytest.mark.parametrize(
    ("installer", "active", "command"),
    [
        ("pip\n", True, "pip install"),
        ("pip\n", False, "PYTHON -m pip install"),
        (None, False, "PYTHON -m pip install"),
        ("uv", True, "uv pip install"),
        ("uv", False, 'uv pip install --python "PYTHON"'),
    ],
)
def test_the_command_is_for_this_python(monkeypatch, tmp_path, installer, active, command):
    for folder in ("bin", "other"):
        (tmp_path / folder).mkdir()
    pip = tmp_path / ("bin" if active else "other") / ("pip.exe" if sys.platform == "win32" else "pip")
    pip.write_text("")
    pip.chmod(0o755)
    monkeypatch.setenv("PATH", str(pip.parent))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix if active else "elsewhere")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(installation, "_ROOT", tmp_path)
    installed(tmp_path, None, installer)
    assert installation._install_command() == command.replace("PYTHON", sys.executable)


@pytest.mark.skipif(os.name != "posix", reason="for POSIX shells")
@pytest.mark.parametrize("folder", ["plain", "two words", "$HOME", 'a"b', "it's", "wow!", "back\\slash"])
def test_a_shell_reads_the_folder_as_it_is(folder):
    done = subprocess.run(["sh", "-c", f"printf %s {installation._quote(folder)}"], capture_output=True, check=True)
    assert done.stdout.decode() == folder


@pytest.mark.slow
def test_a_wheel_that_pip_has_installed(tmp_path):
    wheel = tmp_path / "a b" / f"glm4_edge-{VERSION}-py3-none-any.whl"
    wheel.parent.mkdir()
    with ZipFile(wheel, "w") as archive:
        information = f"glm4_edge-{VERSION}.dist-info"
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: glm4-edge\nVersion: {VERSION}\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        for path in (ROOT / "runtime").rglob("*.py"):
            archive.write(path, path.relative_to(ROOT))
        archive.writestr(f"{information}/RECORD", "")
    site = tmp_path / "site"
    options = ("install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(site))
    subprocess.run([sys.executable, "-m", "pip", *options, str(wheel)], check=True)
    code = "from runtime.system.installation import install_hint; print(install_hint('serve'))"
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip().endswith(f' install "glm4-edge[serve] @ {wheel.as_uri()}"')
