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

from edge.hub import checkpoint_folder
from runtime.errors import CheckpointError

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
            siblings = [{"rfilename": name, "size": len(data)} for name, data in FILES.items()]
            tree = [{"type": "file", "path": name, "size": len(data), "oid": "b" * 40} for name, data in FILES.items()]
            info = {"id": "zai-org/GLM-4-9B-0414", "sha": commit, "siblings": siblings}
            self.send(200, json.dumps(tree if "/tree/" in path else info).encode(), {}, with_body)
        elif path.startswith("/zai-org/GLM-4-9B-0414/resolve/"):
            data = FILES[path.split("/")[-1]]
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


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(name, endpoint, home):
    """In a process of its own, since the hub's library reads its environment when it is imported."""
    code = (
        "from edge.hub import checkpoint_folder\nfrom runtime.errors import EdgeError\n"
        f"try: print(checkpoint_folder({name!r}))\nexcept EdgeError as exc: print(exc, '|', exc.hint)"
    )
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    return done.stdout.strip()


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
