"""Downloads of a revision, of a GGUF file, and from ModelScope: real HTTP, from hubs on this machine."""

import json
import os
import re

import pytest

from edge.cli import main
from edge.demo import CHECKPOINT
from edge.hub import download as hub_download
from edge.hub.resolve import resolve_checkpoint
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import CheckpointError

from .ggufs import write_gguf
from .hub_server import MODELSCOPE_REPOSITORY, REPOSITORY, hangs_up, hub, refuses
from .test_hub import DEMO

pytest.importorskip("huggingface_hub")
WEIGHTS = os.urandom(300_000)
SHARDS = {"config.json": b"{}", "a.safetensors": WEIGHTS, "b.safetensors": WEIGHTS[::-1], "code.py": b"raise"}
OTHER = {"config.json": b'{"other": 1}', "a.safetensors": WEIGHTS[::-1]}


@pytest.fixture(autouse=True)
def caches(monkeypatch, tmp_path):
    """Caches of its own, no token, and no long waits."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "huggingface"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub_download, "RETRY_DELAYS", (0.01, 0.01))
    monkeypatch.setattr(hub_download, "TIMEOUT", 2.0)


@pytest.fixture
def server(monkeypatch):
    """Both hubs at one address: their paths differ."""
    with hub(SHARDS) as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", found.url)
        yield found


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def without_code(files):
    return {name: data for name, data in files.items() if not name.endswith(".py")}


def failure(name, **options):
    with pytest.raises(CheckpointError) as caught:
        resolve_checkpoint(name, **options)
    said = str(caught.value), caught.value.hint
    assert all(text and "\n" not in text and len(text) < 300 for text in said)
    return " | ".join(said)


def transfers(server):
    """The downloads of weights: the file's place in the request, and the first byte that was wanted."""
    return [
        start for method, path, start in server.asked if method == "GET" and path.endswith(("/repo", "safetensors"))
    ]


@pytest.mark.parametrize(("where", "name"), [("huggingface", REPOSITORY), ("modelscope", MODELSCOPE_REPOSITORY)])
def test_a_revision_is_downloaded(server, where, name):
    revision = "v2/beta" if where == "modelscope" else "v2"
    server.add(revision, OTHER)
    first = resolve_checkpoint(name, hub=where)
    second = resolve_checkpoint(name, hub=where, revision=revision)
    assert content(first) == without_code(SHARDS)
    assert content(second) == OTHER
    assert content(resolve_checkpoint(name, hub=where)) == without_code(SHARDS)


NO_REVISIONS = {
    "unknown": ("v9", "has no revision 'v9' on the hub .*branches, tags"),
    "a way out": ("../../etc", "'../../etc' is not a revision"),
    "empty": ("", "'' is not a revision"),
}


@pytest.mark.parametrize(("revision", "words"), NO_REVISIONS.values(), ids=NO_REVISIONS.keys())
def test_what_is_no_revision(server, revision, words):
    assert re.search(words, failure(REPOSITORY, revision=revision))


def test_a_folder_has_no_revisions(server, tmp_path):
    assert "has no revisions | leave out --revision" in failure(str(tmp_path), revision="main")
    assert server.asked == []


def test_a_hub_that_does_not_exist():
    assert "there is no hub 'wisemodel' | choose huggingface or modelscope" in failure("a/b", hub="wisemodel")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(CHECKPOINT, folder / "x-Q8_0.gguf", "Q8_0")
    return (folder / "x-Q8_0.gguf").read_bytes()


@pytest.mark.parametrize(("where", "name"), [("huggingface", REPOSITORY), ("modelscope", MODELSCOPE_REPOSITORY)])
def test_a_gguf_file_is_downloaded_by_its_name(server, gguf, where, name):
    server.files = {"Q8_0/x-Q8_0.gguf": gguf, "x-BF16.gguf": gguf[:100], **SHARDS}
    path = resolve_checkpoint(f"{name}:Q8_0/x-Q8_0.gguf", hub=where)
    assert path.read_bytes() == gguf
    assert Checkpoint.open(path).manifest.family == "glm4_0414"
    assert not list(path.parent.parent.glob("*.safetensors"))
    server.fault = hangs_up
    assert resolve_checkpoint(f"{name}:Q8_0/x-Q8_0.gguf", hub=where) == path  # from the cache


def test_all_parts_of_a_gguf_file_are_downloaded(server):
    parts = {f"x-{number:05}-of-00003.gguf": os.urandom(1000) for number in (1, 2, 3)}
    server.files = {**parts, "y-00001-of-00003.gguf": b"", "x-00001-of-00002.gguf": b""}
    path = resolve_checkpoint(f"{REPOSITORY}:x-00002-of-00003.gguf")
    assert path.name == "x-00002-of-00003.gguf"
    assert content(path.parent) == parts


def test_a_gguf_file_that_does_not_exist(server):
    said = failure(f"{REPOSITORY}:x.gguf")
    assert said == f"{REPOSITORY} has no file x.gguf on the hub | its page lists them: " + (
        f"https://huggingface.co/{REPOSITORY}/tree/main"
    )


NAMES = ["GLM-4-9B-0414", "zai-org/GLM-4-9B-0414", "THUDM/glm-4-9b-0414", "ZhipuAI/GLM-4-9B-0414"]


@pytest.mark.parametrize("name", NAMES)
def test_modelscope_has_a_model_under_any_of_its_names(server, tmp_path, name):
    folder = resolve_checkpoint(name, hub="modelscope")
    assert folder == tmp_path / "modelscope" / "models" / "ZhipuAI--GLM-4-9B-0414" / "snapshots" / "master"
    assert content(folder) == without_code(SHARDS)
    assert all(path.startswith("/api/v1/models/ZhipuAI/") for _, path, _ in server.asked)
    requests = len(transfers(server))
    server.fault = hangs_up
    assert resolve_checkpoint(name, hub="modelscope") == folder  # without a network
    assert len(transfers(server)) == requests


def breaks_off_in(name):
    """Every transfer of a file ends in the middle."""

    def fault(request, path):
        if not request.path.endswith(f"FilePath={name}"):
            return False
        data, start = request.server.files[name], request.server.asked[-1][2]
        request.send_file(data, start, cut=(len(data) - start) // 2)
        return True

    return fault


def test_a_download_from_modelscope_resumes(server):
    server.fault = breaks_off_in("b.safetensors")
    said = failure(MODELSCOPE_REPOSITORY, hub="modelscope")
    assert re.search("closed the connection .*download resumes", said)
    server.fault = None
    server.asked.clear()
    assert content(resolve_checkpoint(MODELSCOPE_REPOSITORY, hub="modelscope")) == without_code(SHARDS)
    (start,) = transfers(server)
    assert start > 100_000


def test_what_changed_on_modelscope_is_downloaded_again(server):
    resolve_checkpoint(MODELSCOPE_REPOSITORY, hub="modelscope")
    server.files = {**SHARDS, "config.json": b"[]"}
    server.asked.clear()
    assert content(resolve_checkpoint(MODELSCOPE_REPOSITORY, hub="modelscope"))["config.json"] == b"[]"
    assert len(transfers(server)) == 1


def test_what_came_damaged_from_modelscope_is_rejected(server):
    def damaged(request, path):
        if not request.path.endswith("FilePath=a.safetensors"):
            return False
        request.send(200, bytes(len(WEIGHTS)))
        return True

    server.fault = damaged
    assert "arrived damaged" in failure(MODELSCOPE_REPOSITORY, hub="modelscope")
    server.fault = None
    assert content(resolve_checkpoint(MODELSCOPE_REPOSITORY, hub="modelscope")) == without_code(SHARDS)


def listing(*paths):
    files = [{"Path": path, "Type": "blob", "Size": 3, "Sha256": ""} for path in paths]
    return refuses(200, json.dumps({"Data": {"Files": files}}).encode())


MODELSCOPE_FAULTS = {
    "unknown": (refuses(404), "no such model on ModelScope"),
    "private": (refuses(403), "no access to ZhipuAI/GLM-4-9B-0414 on ModelScope .*MODELSCOPE_API_TOKEN"),
    "down": (refuses(503), r"ModelScope fails \(503\)"),
    "a portal": (refuses(200, b"<html>log in"), "does not respond like ModelScope"),
    "another service": (refuses(200, b'{"ok": true}'), "does not respond like ModelScope .*MODELSCOPE_ENDPOINT"),
    "a path out of the cache": (listing("../../x.safetensors"), "does not respond like ModelScope"),
    "an absolute path": (listing("/etc/x.safetensors"), "does not respond like ModelScope"),
    "hangs up": (hangs_up, "closed the connection"),
}


@pytest.mark.parametrize(("fault", "words"), MODELSCOPE_FAULTS.values(), ids=MODELSCOPE_FAULTS.keys())
def test_what_modelscope_answers(server, tmp_path, fault, words):
    server.fault = fault
    assert re.search(words, failure(MODELSCOPE_REPOSITORY, hub="modelscope"))
    assert not list(tmp_path.rglob("x.safetensors"))


def test_a_token_goes_to_modelscope_alone(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    seen = set()

    def look(request, path):
        seen.add((path.startswith("/api/v1/"), request.headers.get("Authorization")))
        return False

    server.fault = look
    resolve_checkpoint(MODELSCOPE_REPOSITORY, hub="modelscope")
    resolve_checkpoint(REPOSITORY)
    assert seen == {(True, "Bearer ms-secret"), (False, "Bearer hf_secret")}


@pytest.mark.parametrize(("where", "cure"), [("huggingface", "HF_ENDPOINT"), ("modelscope", "--hub huggingface")])
def test_where_a_hub_cannot_be_reached_another_is_named(monkeypatch, where, cure):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    said = failure(REPOSITORY, hub=where)
    assert "cannot be reached: 127.0.0.1:9 refused the connection | connect to the network" in said
    assert cure in said


def test_an_endpoint_that_is_none(monkeypatch):
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "www.modelscope.cn")
    said = failure(REPOSITORY, hub="modelscope")
    assert "MODELSCOPE_ENDPOINT is 'www.modelscope.cn', not the URL of a hub" in said


@pytest.mark.slow
def test_the_command_converts_from_modelscope(server, tmp_path, capsys):
    server.files = {}
    server.add("v1", DEMO)
    out = tmp_path / "out"
    arguments = ["convert", "GLM-4-9B-0414", str(out), "--recipe", "int8", "--quiet", "--hub", "modelscope"]
    assert main([*arguments, "--revision", "v1"]) == 0
    assert main(["inspect", str(out)]) == 0
    assert "ZhipuAI/GLM-4-9B-0414" in capsys.readouterr().out
