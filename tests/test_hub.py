"""Fetching by name, from a hub of our own on this machine, and without any."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.demo import CHECKPOINT
from edge.hub.resolve import resolve_checkpoint, resolve_model
from runtime.errors import CheckpointError, DeviceError

from .hub_server import hub as hub_of

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "config.json": b'{"model_type": "glm4"}',
    "model.safetensors": bytes(range(256)) * 64,
    "modeling_chatglm.py": b"raise SystemExit('remote code')",
    "pytorch_model.bin": b"a pickle",
    "README.md": b"a card",
}


DEMO = {file.name: file.read_bytes() for file in CHECKPOINT.iterdir() if file.is_file()}


@pytest.fixture
def hub(request):
    """A hub's URL; of the embedded checkpoint under a name of the catalogue, where a test asks for DEMO."""
    with hub_of(getattr(request, "param", FILES)) as server:
        yield server.url


def python(*arguments, endpoint, home, text=""):
    """What it prints, in a process of its own, since the hub's library reads its environment when it is imported."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    return done.stdout.strip()


def fetch(name, endpoint, home, code="resolve_checkpoint({name!r})"):
    code = (
        "from edge.hub.resolve import resolve_checkpoint, resolve_model\nfrom runtime.errors import EdgeError\n"
        f"try: print({code.format(name=name)})\nexcept EdgeError as exc: print(exc, '|', exc.hint)"
    )
    return python("-c", code, endpoint=endpoint, home=home)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zai-org/GLM-4-9B-0414", "THUDM/GLM-4-9B-0414", "glm-4-9b-chat-0414"])
def test_a_model_is_fetched_by_any_of_its_names_without_code_or_pickles(hub, tmp_path, name):
    folder = Path(fetch(name, hub, tmp_path))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: FILES[name] for name in ("config.json", "model.safetensors", "README.md")
    }


@pytest.mark.slow
def test_what_the_hub_does_not_have_is_said(hub, tmp_path):
    assert "no such model on the hub" in fetch("nobody/nothing", hub, tmp_path)


def test_without_a_network_the_cure_is_said(tmp_path):
    said = fetch("zai-org/GLM-4-9B-0414", "http://127.0.0.1:9", tmp_path)
    assert "the hub cannot be reached: 127.0.0.1:9 refused the connection | connect to the network" in said


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert resolve_checkpoint(str(tmp_path)) == tmp_path
    with pytest.raises(CheckpointError, match="there is no folder"):
        resolve_checkpoint(str(tmp_path / "nowhere"))


@pytest.mark.slow
@pytest.mark.parametrize("hub", [DEMO], indirect=True)
def test_a_chat_with_torch_fetches_a_model_by_its_name(hub, tmp_path):
    pytest.importorskip("torch")
    chat = ("-m", "edge", "chat", "GLM-4-9B-0414", "--device", "torch:cpu", "--max-new-tokens", "8")
    said = python(*chat, endpoint=hub, home=tmp_path, text="Who are you?")
    assert said.startswith("I am")
    nowhere = "http://127.0.0.1:9"
    assert python(*chat, endpoint=nowhere, home=tmp_path, text="Who are you?") == said  # from the cache


def test_for_a_server_the_texts_alone_are_fetched(tmp_path):
    code = "resolve_model(('http://127.0.0.1:9', 'CPU'), {name!r}).manifest.source.name"
    with hub_of(DEMO) as server:
        assert fetch("THUDM/GLM-4-9B-0414", server.url, tmp_path, code) == "zai-org/GLM-4-9B-0414"
        assert server.asked
        assert not any("safetensors" in path for _, path, _ in server.asked)


def test_what_openvino_would_have_to_convert_is_not_fetched():
    with pytest.raises(CheckpointError, match="OpenVINO cannot run the hub's zai-org/GLM-4-9B-0414") as caught:
        resolve_model(("auto", "GPU"), "GLM-4-9B-0414")
    assert "edge convert zai-org/GLM-4-9B-0414" in caught.value.hint


def test_nothing_is_fetched_for_an_engine_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("runtime.backends.torch.ipex.Ipex.needs", ("no_such_package",))
    with pytest.raises(DeviceError, match="needs no_such_package, which is not installed"):
        resolve_model(("ipex", "CPU"), "GLM-4-9B-0414")
