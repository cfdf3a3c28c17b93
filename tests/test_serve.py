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
from edge.server.guard.api_keys import ApiKey, read_api_keys  # noqa: E402
from runtime.errors import RequestError  # noqa: E402
from runtime.version import VERSION  # noqa: E402

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


@pytest.mark.slow
def test_it_serves_and_ends_when_it_is_told_to(demo_folder, tmp_path):
    log = tmp_path / "log"
    with program(demo_folder.path, "--device", "CPU", log=log) as (url, process):
        with httpx2.stream("POST", f"{url}{CHAT}", json=LONG | {"stream": True}, timeout=60) as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line.startswith("data: "))  # after the heartbeats
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


@pytest.mark.slow
def test_when_it_is_killed_its_engine_ends_too(demo_folder, tmp_path):
    import psutil

    with program(demo_folder.path, "--device", "CPU", log=tmp_path / "log") as (url, process):
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        assert httpx2.post(f"{url}{CHAT}", json=ASK | {"max_tokens": 2}, timeout=60).status_code == 200
        process.kill()
        process.wait()
        until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))


@pytest.mark.slow
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


TOOLS = """
import os, sys
print("a library prints when it is imported")
os.write(1, b"and so does its C code\\n")

def clock() -> str:
    '''The time.'''
    return "noon"
"""
HOST = """
const { spawn } = require("node:child_process");
const server = spawn(process.argv[1], process.argv.slice(2), { stdio: ["pipe", "pipe", "inherit"] });
require("node:readline").createInterface({ input: server.stdout }).once("line", async (line) => {
  const { api, models, pid } = JSON.parse(line);
  const body = { model: models[0], messages: [{ role: "user", content: "Who are you?" }] };
  const headers = { "Content-Type": "application/json" };
  const reply = await fetch(`${api}/chat/completions`, { method: "POST", headers, body: JSON.stringify(body) });
  console.log(JSON.stringify({ pid, text: (await reply.json()).choices[0].message.content }));
  process.kill(process.pid, "SIGKILL");
});
"""


def sidecar(folder, *arguments):
    options = ("--device", "CPU", "--port", "0", "--ready-json")
    return [sys.executable, "-m", "edge", "serve", str(folder.path), *options, *arguments]


@pytest.mark.slow
@pytest.mark.parametrize("kiosk", [False, True])
def test_a_program_that_starts_it_reads_one_line_of_json(demo_folder, tmp_path, kiosk):
    (tmp_path / "noisy.py").write_text(TOOLS)
    command = sidecar(demo_folder, "--tools", "noisy:clock", *(["--kiosk"] if kiosk else []))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as process:
        try:
            line = process.stdout.readline()
            ready = json.loads(line)
            assert line.endswith("\n")
            url = ready["url"]
            assert httpx2.get(f"{url}/ready").status_code == 200
            assert ready == {
                "url": url,
                "api": None if kiosk else f"{url}/v1",
                "pid": process.pid,
                "models": [demo_folder.path.name],
                "version": VERSION,
                "uds": None,
            }
            rest, said = process.communicate(timeout=30)  # closes its standard input
        finally:
            process.kill()
    assert (process.returncode, rest) == (0, "")
    assert "a library prints when it is imported\n" in said
    assert "and so does its C code\n" in said
    assert f"{url} is the" in said


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js")
def test_it_is_a_sidecar_of_a_program_in_another_language(demo_folder):
    """The program asks it, and dies without a word to it."""
    import psutil

    command = ["node", "-e", HOST, *sidecar(demo_folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    answer = json.loads(done.stdout)
    assert "tiny test model" in answer["text"]
    server = [one for one in psutil.process_iter() if one.pid == answer["pid"]]
    until(lambda: not any(one.is_running() and one.status() != "zombie" for one in server), seconds=20)


def test_a_sidecar_that_cannot_begin_prints_no_line(tmp_path):
    command = [sys.executable, "-m", "edge", "serve", str(tmp_path), "--ready-json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: .+\nhint: .+\n", done.stderr)


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
            ([folder, "--port", "99999"], "--port is 99,999"),
            ([folder, "--host", "0.0.0.0"], "anyone who reaches 0.0.0.0 could use the model"),
            ([folder, "--api-key-file", "nowhere"], "nowhere cannot be read"),
            ([folder, folder], "two models are named"),
            ([folder, "--tools", "nowhere:tool"], "nowhere:tool"),
            ([folder, "--tools", "json"], "there is no tool 'json'"),
            ([folder, "--kiosk", "nowhere.toml"], "nowhere.toml cannot be read"),
            (["--kiosk", folder, "--port", str(taken.getsockname()[1])], "cannot be used"),
            (["--kiosk"], "there is no model to serve"),
        ):
            assert main(["serve", *arguments]) == 1
            assert re.fullmatch(rf"error: .*{re.escape(words)}.*\nhint: .+\n", capsys.readouterr().err), arguments


def test_the_keys_come_from_a_file_or_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_API_KEY", "from-outside")
    assert read_api_keys(None) == (ApiKey("from-outside", "1"),)
    monkeypatch.delenv("EDGE_API_KEY")
    assert read_api_keys(None) == ()
    file = tmp_path / "keys"
    for text, keys in {
        "secret\n": [("secret", "1")],
        "\ufeff# our clients\n\n sk:1 \r\nlaptop: sk-2\nsk-3 \n": [("sk:1", "1"), ("sk-2", "laptop"), ("sk-3", "3")],
        "小明: geheim": [("geheim", "小明")],
    }.items():
        file.write_bytes(text.encode())
        assert [(key.secret, key.name) for key in read_api_keys(str(file))] == keys


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n# none\n", "has no API key"),
        ("good\nnot good\n", "line 2 of .* has no API key"),
        ("name: \n", "line 1 of .* has no API key"),
        ("schlüssel", "line 1 of .* has no API key"),
        ("same\nother: same", "the same key twice"),
        ("one: a\none: b", "two keys of one name"),
        ("x\n" * 2**20, "cannot be read"),
    ],
)
def test_a_file_without_valid_keys_is_rejected(tmp_path, text, words):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(RequestError, match=words) as found:
        read_api_keys(str(file))
    assert found.value.hint
    assert "good" not in str(found.value)
