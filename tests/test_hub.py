"""Fetching by name, from a hub of our own on this machine, and without any."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from edge.demo import CHECKPOINT
from edge.hub import checkpoint_folder, open_for
from runtime.errors import CheckpointError, DeviceError

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "config.json": b'{"model_type": "glm4"}',
    "model.safetensors": bytes(range(256)) * 64,
    "modeling_chatglm.py": b"raise SystemExit('remote code')",
    "pytorch_model.bin": b"a pickle",
    "README.md": b"a card",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's API as a download of a snapshot asks for."""

    files: ClassVar[dict[str, bytes]] = FILES
    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        self.asked.append(self.path)
        path = self.path.split("?")[0]
        commit = "a" * 40
        if path.startswith("/api/models/zai-org/GLM-4-9B-0414"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": "b" * 40} for name, data in self.files.items()
            ]
            info = {"id": "zai-org/GLM-4-9B-0414", "sha": commit, "siblings": siblings}
            self.send(200, json.dumps(tree if "/tree/" in path else info).encode(), {}, with_body)
        elif path.startswith("/zai-org/GLM-4-9B-0414/resolve/"):
            data = self.files[path.split("/")[-1]]
            tag = hashlib.sha1(data).hexdigest()
            self.send(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": commit}, with_body)
        else:
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)

    def send(self, status, data, headers, with_body):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


class HubOfTheDemo(Hub):
    """It has the embedded checkpoint under a name of the catalogue."""

    files: ClassVar = {file.name: file.read_bytes() for file in CHECKPOINT.iterdir() if file.is_file()}
    asked: ClassVar[list[str]] = []


@pytest.fixture
def hub(request):
    server = ThreadingHTTPServer(("127.0.0.1", 0), getattr(request, "param", Hub))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def python(*arguments, endpoint, home, text=""):
    """What it prints, in a process of its own, since the hub's library reads its environment when it is imported."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    return done.stdout.strip()


def fetch(name, endpoint, home, code="checkpoint_folder({name!r})"):
    code = (
        "from edge.hub import checkpoint_folder, open_for\nfrom runtime.errors import EdgeError\n"
        f"try: print({code.format(name=name)})\nexcept EdgeError as exc: print(exc, '|', exc.hint)"
    )
    return python("-c", code, endpoint=endpoint, home=home)


@pytest.mark.parametrize("name", ["zai-org/GLM-4-9B-0414", "THUDM/GLM-4-9B-0414", "glm-4-9b-chat-0414"])
def test_a_model_is_fetched_by_any_of_its_names_without_code_or_pickles(hub, tmp_path, name):
    folder = Path(fetch(name, hub, tmp_path))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: FILES[name] for name in ("config.json", "model.safetensors", "README.md")
    }


def test_what_the_hub_does_not_have_is_said(hub, tmp_path):
    assert "no such model on the hub" in fetch("nobody/nothing", hub, tmp_path)


def test_without_a_network_the_cure_is_said(tmp_path):
    said = fetch("zai-org/GLM-4-9B-0414", "http://127.0.0.1:9", tmp_path)
    assert "the hub cannot be reached | connect to the network" in said


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert checkpoint_folder(str(tmp_path)) == tmp_path
    with pytest.raises(CheckpointError, match="there is no folder"):
        checkpoint_folder(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("hub", [HubOfTheDemo], indirect=True)
def test_a_chat_with_torch_fetches_a_model_by_its_name(hub, tmp_path):
    pytest.importorskip("torch")
    chat = ("-m", "edge", "chat", "GLM-4-9B-0414", "--device", "torch:cpu", "--max-new-tokens", "8")
    said = python(*chat, endpoint=hub, home=tmp_path, text="Who are you?")
    assert said.startswith("I am")
    nowhere = "http://127.0.0.1:9"
    assert python(*chat, endpoint=nowhere, home=tmp_path, text="Who are you?") == said  # from the cache


@pytest.mark.parametrize("hub", [HubOfTheDemo], indirect=True)
def test_for_a_server_the_texts_alone_are_fetched(hub, tmp_path):
    HubOfTheDemo.asked.clear()
    code = "open_for(('http://127.0.0.1:9', 'CPU'), {name!r}).manifest.source.name"
    assert fetch("THUDM/GLM-4-9B-0414", hub, tmp_path, code) == "zai-org/GLM-4-9B-0414"
    assert not any("safetensors" in path for path in HubOfTheDemo.asked)


def test_what_openvino_would_have_to_convert_is_not_fetched():
    with pytest.raises(CheckpointError, match="OpenVINO cannot run the hub's zai-org/GLM-4-9B-0414") as caught:
        open_for(("auto", "GPU"), "GLM-4-9B-0414")
    assert "edge convert zai-org/GLM-4-9B-0414" in caught.value.hint


def test_nothing_is_fetched_for_an_engine_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("runtime.backends.ipex.Ipex.needs", ("no_such_package",))
    with pytest.raises(DeviceError, match="needs no_such_package, which is not installed"):
        open_for(("ipex", "CPU"), "GLM-4-9B-0414")
