"""The texts that three systems read. systemd's own checker sees its unit where it is here."""

import json
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from edge import service
from edge.cli import main, parser
from edge.cli.config_flags import flag_words, read_flags
from edge.cli.serve import SECTIONS
from edge.config.sections import section_keys
from runtime.errors import RequestError

from .serving import free_port

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


def test_the_unit_comes_back_however_often_it_ends(tmp_path):
    text = made("linux", tmp_path).text
    unit, _, rest = text.partition("[Service]")
    assert "StartLimitIntervalSec=0" in unit
    assert {"Restart=always", "RestartSec=5"} <= {*rest.splitlines()}


LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it runs what Linux has")


@pytest.fixture
def control(tmp_path, monkeypatch):
    """A systemctl that notes what it is asked, and fails for what the file "fails" names: the real one would change
    this user's services."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/systemctl"
    program.write_text(
        f"""#!/bin/sh
echo "$@" >> {tmp_path}/asked
while read -r word; do case "$2" in "$word") echo "$word failed" >&2; exit 1;; esac; done < {tmp_path}/fails
echo active
"""
    )
    program.chmod(0o755)
    (tmp_path / "fails").touch()
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def asked(folder):
    found = (folder / "asked").read_text().splitlines()
    (folder / "asked").unlink()
    return [line.removeprefix("--user ") for line in found]


UNIT = ".config/systemd/user/glm4-edge.service"
MODELS = ".config/systemd/user/glm4-edge.models.json"


@LINUX
def test_install_status_remove(control, capsys, demo_folder, monkeypatch):
    monkeypatch.setattr("edge.user_services.systemd_unit.linger_command", lambda: "loginctl enable-linger me")
    assert main(["service", "status"]) == 4
    assert capsys.readouterr().out == "not installed\n"
    assert main(["service", "remove"]) == 1
    assert main(["service", "update", str(demo_folder.path)]) == 1
    assert main(["service", "install"]) == 1
    capsys.readouterr()
    unit, models, masked = control / UNIT, control / MODELS, control / "mine"
    unit.parent.mkdir(parents=True)
    masked.write_text("x")
    unit.symlink_to(masked)
    port = str(free_port())
    assert main(["service", "install", str(demo_folder.path), "--port", port]) == 0
    assert "at boot, without a login: loginctl enable-linger me" in capsys.readouterr().out
    assert masked.read_text() == "x"
    assert f'"--port" "{port}" "--models-file" "{models}"' in unit.read_text()
    assert json.loads(models.read_text()) == {demo_folder.path.name: str(demo_folder.path)}
    assert asked(control)[1:] == ["daemon-reload", "enable glm4-edge.service", "restart glm4-edge.service"]
    assert main(["service", "status"]) == 0
    assert capsys.readouterr().out.endswith("active\n")
    assert main(["service", "remove"]) == 0
    assert [*unit.parent.iterdir()] == []
    assert asked(control)[1:] == ["disable --now glm4-edge.service", "daemon-reload"]


@LINUX
def test_a_failed_install_is_undone(control, demo_folder, capsys):
    port = str(free_port())
    (control / "fails").write_text("restart\n")
    assert main(["service", "install", str(demo_folder.path), "--port", port]) == 1
    assert "restart glm4-edge.service: restart failed" in capsys.readouterr().err
    assert [*(control / UNIT).parent.iterdir()] == []
    assert asked(control)[-2:] == ["disable --now glm4-edge.service", "daemon-reload"]
    (control / "fails").write_text("")
    assert main(["service", "install", f"old={demo_folder.path}", "--port", port]) == 0
    before = {path.name: path.read_text() for path in (control / UNIT).parent.iterdir()}
    asked(control)
    (control / "fails").write_text("enable\n")
    assert main(["service", "install", f"new={demo_folder.path}", "--port", "8001"]) == 1
    assert {path.name: path.read_text() for path in (control / UNIT).parent.iterdir()} == before
    assert asked(control)[-1] == "restart glm4-edge.service"


TOOL = 'def clock() -> str:\n    """The time."""\n    return "noon"\n'
REFUSED = {  # the arguments after the folder, and the error
    "port": (["--port", "{used}"], "port {used} of 127.0.0.1 cannot be used"),
    "host": (["--host", "0.0.0.0"], "anyone who reaches 0.0.0.0 could use the model"),
    "device": (["--device", "GPU.7"], "there is no device GPU.7 here"),
    "context": (["--context", "999999"], "a context of 999,999 tokens is more than"),
    "certificate": (["--ssl-cert", "{folder}/none.pem"], "none.pem cannot be read"),
    "a tool of this shell": (["--tools", "shells_own:clock"], "No module named 'shells_own'"),
    "kiosk": (["--kiosk", "{folder}/kiosk.toml"], "idle"),
    "adapter": (["--adapters", "{folder}"], "adapter"),
    "mcp": (["--mcp", "none-such-server --x"], "the MCP server none-such has no allow list"),
    "key": (["--api-key-file", "{folder}/empty"], "has no API key"),
    "alias": (["--alias", "mine=other"], "which is not served here"),
}


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_cannot_start_is_refused(control, demo_folder, capsys, monkeypatch, case):
    (control / "shells_own.py").write_text(TOOL)
    (control / "kiosk.toml").write_text("idle = 1\n")
    (control / "empty").touch()
    monkeypatch.setenv("PYTHONPATH", str(control))
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        values = {"used": taken.getsockname()[1], "folder": control}
        arguments, words = [one.format(**values) for one in case[0]], case[1].format(**values)
        if "--port" not in arguments:
            arguments += ["--port", str(free_port())]
        assert main(["service", "install", str(demo_folder.path), *arguments]) == 1
    assert words in capsys.readouterr().err
    assert [*control.glob(".config/systemd/user/*")] == []
    assert not (control / "asked").exists()


@LINUX
def test_a_damaged_model_and_a_key_of_the_shell_are_refused(control, demo_folder, capsys, monkeypatch):
    broken = control / "broken"
    shutil.copytree(demo_folder.path, broken)
    (broken / "openvino_model.bin").write_bytes(b"x")
    assert main(["service", "install", str(broken)]) == 1
    assert "openvino_model.bin has 1 bytes" in capsys.readouterr().err
    monkeypatch.setenv("EDGE_API_KEY", "secret")
    assert main(["service", "install", str(demo_folder.path)]) == 1
    assert "a service does not have this shell's variable EDGE_API_KEY" in capsys.readouterr().err
    assert [*control.glob(".config/systemd/user/*")] == []


def value_of(key, folder):
    """A value of the key as words of a command line."""
    match get_origin(key.kind):
        case kind if kind is Literal:
            return get_args(key.kind)[-1]
        case kind if kind is dict:
            return f"one={folder}"
    if key.kind in (int, float):
        return str(int(key.setting.least or 0) + 1)
    return str(folder) if key.setting.path else "CPU" if key.name in ("device", "fallback") else "u8"


def test_every_option_of_serve_is_the_services(tmp_path):
    parse = parser().parse_args
    for section in SECTIONS:
        for key in section_keys(section):
            words = [key.flag] if key.kind is bool else [key.flag, value_of(key, tmp_path)]
            installed = parse(["service", "install", "x", *words])
            served = parse(["serve", *flag_words(installed)])
            assert read_flags(served) == read_flags(parse(["serve", *words])), key.flag
            assert read_flags(served), key.flag


def test_print_shows_the_text_and_installs_nothing(tmp_path, monkeypatch, capsys, demo_folder):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    kiosk = tmp_path / "kiosk.toml"
    kiosk.write_text("idle = 30\n")
    assert main(["service", "install", str(demo_folder.path), "--kiosk", str(kiosk), "--print"]) == 0
    out = capsys.readouterr().out
    assert "glm4-edge.models.json" in out
    assert str(kiosk.resolve()) in out
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["kiosk.toml"]
