"""`edge serve` as a program: how it begins, how it ends, what it says."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.cli import main  # noqa: E402
from edge.server.run import read_api_key  # noqa: E402
from runtime.errors import RequestError  # noqa: E402

from .serving import free_port  # noqa: E402
from .test_server import ASK, CHAT, LONG, until  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def program(folder, *arguments, log):
    """`edge serve`, its URL, and the process."""
    return serving([sys.executable, "-m", "edge", "serve", str(folder), *arguments], log)


@contextmanager
def serving(command, log):
    """The command with a port: its URL once it is ready, and the process."""
    port = free_port()
    command = [*command, "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "EDGE_API_KEY"}
    with log.open("wb") as out, subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=environment) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: answers(url) or process.poll() is not None, seconds=60)
            assert process.poll() is None, log.read_text()
            yield url, process
        finally:
            process.kill()


def answers(url):
    try:
        return httpx2.get(f"{url}/ready").status_code == 200
    except httpx2.TransportError:
        time.sleep(0.1)
        return False


def test_it_serves_and_ends_when_it_is_told_to(demo_folder, tmp_path):
    log = tmp_path / "log"
    with program(demo_folder.path, "--device", "CPU", log=log) as (url, process):
        with httpx2.stream("POST", f"{url}{CHAT}", json=LONG | {"stream": True}, timeout=60) as stream:
            lines = stream.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert process.wait(20) == 0
    said = log.read_text()
    assert "answers OpenAI's clients" in said
    assert f"POST {CHAT} 200" in said
    assert "Who are you" not in said
    assert "Traceback" not in said


def test_when_it_is_killed_its_engine_ends_too(demo_folder, tmp_path):
    import psutil

    with program(demo_folder.path, "--device", "CPU", log=tmp_path / "log") as (url, process):
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        assert httpx2.post(f"{url}{CHAT}", json=ASK | {"max_tokens": 2}, timeout=60).status_code == 200
        process.kill()
        process.wait()
        until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))


@pytest.mark.parametrize("how", ["stdin closes", "the parent dies"])
def test_it_ends_with_the_program_that_started_it(demo_folder, tmp_path, how):
    import psutil

    port = free_port()
    command = [sys.executable, "-m", "edge", "serve", str(demo_folder.path), "--device", "CPU", "--port", str(port)]
    starter = "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL).wait()"
    dies = how == "the parent dies"
    parent = [sys.executable, "-c", starter] if dies else []
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(
            [*parent, *command, "--exit-with-parent"], cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    until(lambda: answers(f"http://127.0.0.1:{port}"), seconds=60)
    family = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]
    assert len(family) >= 2
    if dies:
        started.kill()
    else:
        started.stdin.close()
    with started:
        until(lambda: not any(one.is_running() and one.status() != "zombie" for one in family), seconds=20)
        assert dies or started.wait(20) == 0


def test_what_cannot_begin_is_one_line(capsys, monkeypatch, demo_folder, tmp_path):
    monkeypatch.delenv("EDGE_API_KEY", raising=False)
    damaged = shutil.copytree(demo_folder.path, tmp_path / "damaged")
    (damaged / "openvino_model.bin").write_bytes(b"")
    broken = shutil.copytree(demo_folder.path, tmp_path / "broken")
    manifest = json.loads((broken / "edge.json").read_text())
    (broken / "openvino_model.xml").write_text("<net")
    manifest["files"]["openvino_model.xml"]["size"] = 4
    (broken / "edge.json").write_text(json.dumps(manifest))
    folder = str(demo_folder.path)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        for arguments, words in (
            ([str(damaged)], "openvino_model.bin has 0 bytes"),
            ([str(broken), "--no-verify", "--device", "CPU", "--port", str(free_port())], "OpenVINO cannot load"),
            ([folder, "--port", str(taken.getsockname()[1])], "cannot be used: Address already in use"),
            ([folder, "--port", "99999"], "cannot be used"),
            ([folder, "--host", "0.0.0.0"], "anyone who reaches 0.0.0.0 could use the model"),
            ([folder, "--api-key-file", "nowhere"], "nowhere cannot be read"),
            ([folder, folder], "two folders are named"),
            ([folder, "--tools", "nowhere:tool"], "nowhere:tool"),
            ([folder, "--tools", "json"], "json names no function"),
            ([folder, "--kiosk", "nowhere.toml"], "nowhere.toml cannot be read"),
            (["--kiosk", folder, "--port", "99999"], "cannot be used"),
            (["--kiosk"], "no model folder is named"),
        ):
            assert main(["serve", *arguments]) == 1
            assert re.fullmatch(rf"error: .*{re.escape(words)}.*\nhint: .+\n", capsys.readouterr().err), arguments


def test_the_key_comes_from_a_file_or_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_API_KEY", "from-outside")
    assert read_api_key(None) == "from-outside"
    file = tmp_path / "key"
    file.write_text("secret\n")
    assert read_api_key(str(file)) == "secret"
    file.write_text("\n")
    with pytest.raises(RequestError, match="no API key"):
        read_api_key(str(file))
