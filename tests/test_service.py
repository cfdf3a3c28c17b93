"""The texts that three systems read. systemd's own checker sees its unit where it is here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge import service
from edge.cli import main
from runtime.errors import RequestError

FOLDER = '/home/a b/100% & "$more"'
COMMAND = (sys.executable, "-P", "-m", "edge", "serve", FOLDER, "--port", "80")


def made(platform, tmp_path):
    return service.describe_service((FOLDER, "--port", "80"), platform, tmp_path)


def test_systemd(tmp_path):
    unit = made("linux", tmp_path)
    assert unit.path == tmp_path / ".config/systemd/user/glm4-edge.service"
    assert r'"/home/a b/100%% & \"$$more\"" "--port" "80"' in unit.text
    if checker := shutil.which("systemd-analyze"):
        file = tmp_path / "glm4-edge.service"
        file.write_text(unit.text)
        subprocess.run([checker, "--user", "verify", str(file)], check=True, env={"XDG_RUNTIME_DIR": str(tmp_path)})


def test_other_systems_are_refused(tmp_path):
    with pytest.raises(RequestError, match="user services are not supported on amiga"):
        made("amiga", tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it runs what Linux has")
def test_install_status_remove(tmp_path, monkeypatch, capsys, demo_folder):
    """With a systemctl that notes what it is asked: the real one would change this user's services."""
    (tmp_path / "bin").mkdir()
    control = tmp_path / "bin/systemctl"
    control.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho active\n')
    control.chmod(0o755)
    monkeypatch.setenv("PATH", str(control.parent))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert main(["service", "status"]) == 4
    assert capsys.readouterr().out == "not installed\n"
    assert main(["service", "remove"]) == 1
    assert main(["service", "install"]) == 1
    capsys.readouterr()
    unit, masked = tmp_path / ".config/systemd/user/glm4-edge.service", tmp_path / "mine"
    unit.parent.mkdir(parents=True)
    masked.write_text("x")
    unit.symlink_to(masked)
    assert main(["service", "install", str(demo_folder.path), "--port", "8001"]) == 0
    assert masked.read_text() == "x"
    assert f'"{demo_folder.path}" "--port" "8001"' in unit.read_text()
    assert main(["service", "status"]) == 0
    assert capsys.readouterr().out.endswith("active\n")
    control.write_text("#!/bin/sh\necho inactive\nexit 3\n")
    assert main(["service", "status"]) == 3
    assert capsys.readouterr().out.endswith("inactive\n")
    control.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho active\n')
    assert main(["service", "remove"]) == 0
    assert not unit.exists()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[1] == "--user enable --now glm4-edge.service"
    assert asked[-1] == "--user disable --now glm4-edge.service"


def test_print_shows_the_text_and_installs_nothing(tmp_path, monkeypatch, capsys, demo_folder):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    kiosk = tmp_path / "kiosk.toml"
    kiosk.write_text("idle = 30\n")
    assert main(["service", "install", str(demo_folder.path), "--kiosk", str(kiosk), "--print"]) == 0
    out = capsys.readouterr().out
    assert str(demo_folder.path.resolve()) in out
    assert str(kiosk.resolve()) in out
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["kiosk.toml"]
