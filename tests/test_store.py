"""The model store: names as people type them, what is found, listed and removed, and its lock."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge.catalogue import CATALOGUE
from edge.cli import main
from edge.pull import PullPlan
from edge.store.model_name import ModelName
from edge.store.model_store import find_folder, list_models, require_model, resolve_folder, store_root
from edge.store.pull_lock import pull_lock
from edge.store.removal import remove_model
from runtime.errors import CheckpointError, EdgeError, RequestError
from runtime.folder.manifest import Manifest
from runtime.folder.model_folder import write_manifest
from runtime.system.process_name import process_name

NAMES = {
    "glm-4-9b-0414": ("GLM-4-9B-0414", None),
    "GLM-4-9B-0414": ("GLM-4-9B-0414", None),
    "glm4:9b": ("GLM-4-9B-0414", None),
    "glm4:9b:int8": ("GLM-4-9B-0414", "int8"),
    "z1-9b": ("GLM-Z1-9B-0414", None),
    "zai-org/GLM-4-9B-0414": ("GLM-4-9B-0414", None),
    "THUDM/glm-4-9b-chat:INT8": ("glm-4-9b-chat", "int8"),
    "somebody/GLM-4-9B-Tuned": ("somebody/GLM-4-9B-Tuned", None),
    "somebody/GLM-4-9B-Tuned:bf16": ("somebody/GLM-4-9B-Tuned", "bf16"),
}
UNKNOWN = {
    "glm-4-9b-0415": "GLM-4-9B-0414",
    "z1-8b": "GLM-Z1-9B-0414",
    "llama": "edge models",
    "../etc": "edge models",
    "a/b/c": "edge models",
    "a/b:x.gguf": "edge convert",
}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models"


def put(store, bare_folder, name):
    """A folder without weights as the store would have it."""
    model = ModelName.parse(name)
    folder = store / model.folder
    folder.mkdir(parents=True)
    manifest: Manifest = replace(bare_folder.manifest, recipe=model.recipe, licence="MIT")
    (folder / "chat_template.jinja").write_bytes((bare_folder.path / "chat_template.jinja").read_bytes())
    write_manifest(folder, manifest)
    return folder


@pytest.mark.parametrize(("typed", "wanted"), NAMES.items())
def test_a_model_has_many_names(typed, wanted):
    found = ModelName.parse(typed)
    assert (found.name, found.recipe) == wanted
    assert ModelName.parse(str(found)) == found
    stored = ModelName(found.name, found.recipe or "int4")
    assert ModelName.from_folder(stored.folder) == stored
    assert not set(stored.folder) & set('<>:"/\\|?*')


def test_the_catalogue_s_names_name_one_model_each():
    names = [name.lower() for entry in CATALOGUE.values() for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("typed", "hint"), UNKNOWN.items())
def test_an_unknown_name_is_told_with_the_nearest(typed, hint):
    with pytest.raises(CheckpointError) as caught:
        ModelName.parse(typed)
    assert hint in caught.value.hint


def test_a_name_means_a_model_of_the_store(store, bare_folder):
    assert find_folder("glm4:9b") is None
    eight = put(store, bare_folder, "glm4:9b:int8")
    assert find_folder("glm-4-9b-0414") == eight  # the only one
    other = put(store, bare_folder, "glm4:9b:bf16")
    with pytest.raises(RequestError, match="several models") as caught:
        find_folder("glm-4-9b-0414")
    assert "GLM-4-9B-0414:bf16" in caught.value.hint
    four = put(store, bare_folder, "glm4:9b:int4")
    assert find_folder("glm-4-9b-0414") == four  # the default recipe
    assert find_folder("glm-4-9b-0414:bf16") == other
    assert find_folder("z1-9b") is None
    Path("glm4:9b").mkdir()  # a path that exists wins
    assert find_folder("glm4:9b") is None
    assert resolve_folder("glm4:9b") == "glm4:9b"


def test_the_store_is_the_user_s_own_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("EDGE_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert "glm4-edge" in store_root().parts
    monkeypatch.setenv("EDGE_MODELS", "elsewhere")
    assert store_root() == Path("elsewhere").absolute()


def test_an_unfinished_conversion_is_no_model(store, bare_folder, capsys):
    ready = put(store, bare_folder, "glm4:9b:int4")
    dead = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(dead.pid)
    dead.kill()
    dead.wait()
    dead.stdin.close()
    left = ready.with_name(f".{ready.name}.partial-{name}")
    ready.rename(left)
    assert list_models() == []
    assert main(["list"]) == 0
    assert "An interrupted conversion of GLM-4-9B-0414:int4" in capsys.readouterr().out
    assert main(["rm", "glm4:9b", "--yes"]) == 0
    assert not left.exists()


def test_list_and_show(store, bare_folder, capsys):
    assert main(["list"]) == 0
    assert "There are no models" in capsys.readouterr().out
    folder = put(store, bare_folder, "somebody/Tuned:int4")
    damaged = put(store, bare_folder, "z1-9b:int8")
    (damaged / "chat_template.jinja").write_text("")
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "somebody/Tuned" in out
    assert "damaged" in out
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert [(one["name"], one["licence"], bool(one["damage"])) for one in listed] == [
        ("GLM-Z1-9B-0414:int8", "", True),
        ("somebody/Tuned:int4", "MIT", False),
    ]
    assert main(["show", "somebody/tuned", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(folder)
    assert main(["show", "glm4:9b"]) == 1
    assert "edge pull GLM-4-9B-0414" in capsys.readouterr().err


def test_remove_asks_first_and_stays_inside(store, bare_folder, capsys, tmp_path):
    folder = put(store, bare_folder, "glm4:9b:int4")
    assert main(["rm", "glm4:9b"]) == 1  # there is no terminal
    assert "--yes" in capsys.readouterr().err
    assert folder.exists()
    outside = put(tmp_path / "other", bare_folder, "z1-9b:int4")
    (store / outside.name).symlink_to(outside)
    assert main(["rm", "z1-9b", "--yes"]) == 1  # a link is no model of the store
    with pytest.raises(RequestError, match="not a folder of the store"):
        remove_model(replace(require_model("glm4:9b"), path=outside))
    assert main(["rm", "glm4:9b", "--yes"]) == 0
    assert not folder.exists()
    assert outside.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems list no mapped files")
def test_a_model_in_use_is_not_removed(store, bare_folder):
    folder = put(store, bare_folder, "glm4:9b:int4")
    with (folder / "chat_template.jinja").open() as file:
        user = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[file.fileno()])
    try:
        with pytest.raises(RequestError, match=f"in use by process {os.getpid()}"):  # whose child has it open
            remove_model(require_model("glm4:9b"))
    finally:
        user.kill()
        user.wait()
        user.stdin.close()
    command = ["-c", "input()", "edge", "serve", "name=glm4:9b"]
    user = subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE)
    try:
        with pytest.raises(RequestError, match="in use by process"):
            remove_model(require_model("glm4:9b"))
    finally:
        user.kill()
        user.wait()
        user.stdin.close()
    remove_model(require_model("glm4:9b"))
    assert not folder.exists()


def test_a_second_pull_waits_and_a_dead_one_is_forgotten(store):
    name = ModelName.parse("glm4:9b")
    holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    store.mkdir()
    (store / ".GLM-4-9B-0414.pull").write_text(process_name(holder.pid))
    told = []

    def end(pid):
        told.append(pid)
        holder.kill()
        holder.wait()
        holder.stdin.close()

    began = time.monotonic()
    with pull_lock(name, end):
        assert told == [holder.pid]
        assert time.monotonic() - began < 10
        assert (store / ".GLM-4-9B-0414.pull").read_text() == process_name(os.getpid())
    assert list(store.iterdir()) == []


BIG = PullPlan(
    name=ModelName("glm-4-9b-chat", "int4"),
    hub="huggingface",
    revision=None,
    cache=None,
    total=18_800_000_000,
    missing=18_000_000_000,
    disk=5_000_000_000,
    memory=3_000_000_000,
    running=6_000_000_000,
    licence="glm-4-9b",
    obliges=CATALOGUE["glm-4-9b-chat"].obliges,
)


@pytest.mark.parametrize("verb", ["pull", "run"])
def test_without_a_terminal_a_large_download_is_refused(store, monkeypatch, capsys, verb):
    monkeypatch.setattr("edge.pull.plan_pull", lambda *_, **__: BIG)
    monkeypatch.setattr("edge.pull.open_pull", lambda *_, **__: pytest.fail("it was downloaded"))
    words = [verb, "glm-4-9b-chat", *(["Why?"] if verb == "run" else [])]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "18.0 GB of 18.8 GB to download" in err
    assert err.count("Built with glm-4") == 1
    assert "error: Download 18.0 GB: there is no terminal to ask\nhint: add --yes" in err


def test_two_recipes_are_one_too_many(store, capsys):
    assert main(["pull", "glm4:9b:int8", "--recipe", "int4", "--yes"]) == 1
    assert "two recipes" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["inspect", "doctor", "eval", "serve", "chat", "bench", "mcp"])
def test_a_known_model_that_is_not_there_is_told_with_pull(store, capsys, monkeypatch, verb):
    monkeypatch.setattr("edge.cli.chat.read_stdin", lambda: "Why?")
    if verb == "mcp":
        pytest.importorskip("mcp")
    assert main([verb, "glm4:9b"]) == 1
    assert "edge pull" in (err := capsys.readouterr().err) or "edge run" in err


def test_a_store_that_cannot_be_listed_is_told(store, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(EdgeError, match="cannot be listed: Permission denied"):
        list_models()
