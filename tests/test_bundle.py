"""Offline bundles: what they have, what is refused, and that an unfinished one has no name.

tests/environments/bundle.sh makes a real one, and installs it where there is no network.
"""

import hashlib
import shutil
import sys
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from edge.bundle import bundle as bundles
from edge.bundle.platforms import PLATFORMS
from edge.bundle.wheelhouse import pack_installed
from edge.cli import bundle as verb
from edge.cli import main
from runtime.errors import DiskFull, ModelFolderError, RequestError


@pytest.fixture
def wheels(monkeypatch):
    """Wheels without a network."""

    def download(folder, *_):
        folder.mkdir()
        (folder / "glm4_edge-0.1.0-py3-none-any.whl").write_bytes(b"x")

    monkeypatch.setattr(bundles, "download_wheels", download)


def test_a_bundle_has_all_that_is_needed(wheels, demo_folder, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "kiosk.toml").write_text("idle = 77\n")
    arguments = ["--model", str(demo_folder.path), "--platform", "windows-x86_64", "--python", "3.12"]
    assert main(["bundle", str(out), *arguments, "--kiosk", str(tmp_path / "kiosk.toml")]) == 0
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    model = f"models/{demo_folder.path.name}"
    assert found >= {
        *("README.md", "install.sh", "install.ps1", "kiosk.toml", "glm4-edge.service", "licences/glm4-edge-LICENSE"),
        *(f"{model}/{name}" for name in (*demo_folder.manifest.files, "edge.json")),
    }
    assert (out / "kiosk.toml").read_text() == "idle = 77\n"
    sums = dict(reversed(line.split("  ", 1)) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert {*sums} == found - {"SHA256SUMS"}
    assert all(hashlib.sha256((out / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    assert "py -3.12 -m venv" in (out / "install.ps1").read_text()
    assert "Python 3.12" in (out / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_what_is_refused(wheels, demo_folder, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    shutil.copytree(demo_folder.path, broken)
    weights = broken / "openvino_model.bin"
    weights.write_bytes(bytes(weights.stat().st_size))
    (tmp_path / "kiosk.toml").write_text("idle = 1\n")
    (tmp_path / "there").mkdir()
    out = tmp_path / "out"
    for target, model, settings, error, words in (
        (tmp_path / "there", demo_folder.path, {}, RequestError, "there exists"),
        (out, tmp_path / "none", {}, ModelFolderError, "there is no folder"),
        (out, broken, {}, ModelFolderError, "is damaged: its hash differs"),
        (out, demo_folder.path, {"platform": "amiga"}, RequestError, "there is no platform amiga"),
        (out, demo_folder.path, {"python": "3.8"}, RequestError, "does not run on Python 3.8"),
        (out, demo_folder.path, {"kiosk": tmp_path / "kiosk.toml"}, RequestError, "idle"),
    ):
        with pytest.raises(error, match=words):
            bundles.bundle(target, model, **settings)
    monkeypatch.setattr(bundles, "_WHEEL_BYTES", 10**18)
    with pytest.raises(DiskFull, match="the bundle needs"):
        bundles.bundle(out, demo_folder.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "kiosk.toml", "there"]


def test_an_unfinished_bundle_is_removed(demo_folder, tmp_path, monkeypatch):
    def fail(folder, *_):
        folder.mkdir()
        raise RequestError("the wheels cannot be fetched", hint="check the network")

    monkeypatch.setattr(bundles, "download_wheels", fail)
    with pytest.raises(RequestError, match="cannot be fetched"):
        bundles.bundle(tmp_path / "out", demo_folder.path)
    assert [*tmp_path.iterdir()] == []


def test_an_installed_wheel_is_packed_again(tmp_path):
    site = tmp_path / "site"
    info = site / "glm4_edge-0.1.0.dist-info"
    info.mkdir(parents=True)
    (site / "edge").mkdir()
    (site / "edge/__init__.py").write_text("X = 1\n")
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: glm4-edge\nVersion: 0.1.0\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    names = ("edge/__init__.py", "glm4_edge-0.1.0.dist-info/METADATA", "glm4_edge-0.1.0.dist-info/WHEEL")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in (*names, "../../bin/edge")))
    wheel = pack_installed(Distribution.at(info), tmp_path)
    assert wheel.name == "glm4_edge-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert {*archive.namelist()} == {*names, "glm4_edge-0.1.0.dist-info/RECORD"}
    (info / "RECORD").write_text("edge/__init__.py,,\n")
    with pytest.raises(RequestError, match="not of a wheel"):
        pack_installed(Distribution.at(info), tmp_path)


def test_the_platforms_of_the_command_line():
    assert {*verb.PLATFORMS} == {*PLATFORMS}


@pytest.mark.skipif(sys.platform == "win32", reason="a script for sh")
def test_a_damaged_bundle_is_not_installed(wheels, demo_folder, tmp_path):
    import subprocess

    out = bundles.bundle(tmp_path / "out", demo_folder.path)
    (out / "kiosk.toml").write_text("idle = 61\n")
    command = ["sh", "install.sh", str(tmp_path / "app")]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "error: the bundle is damaged: copy it again")
    assert not Path(tmp_path / "app").exists()
