"""Compiled models are kept, checked, and cleared; a damaged one is compiled again."""

import json
import os
import time

import pytest

from runtime.backends.backend import Options, Request
from runtime.backends.openvino.single_request.npu import EMULATED, NPU
from runtime.folder import compile_cache as compiled
from runtime.folder.model_folder import ModelFolder
from runtime.sampling import SamplingParams


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(compiled.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(folder, device="GPU", driver="1", size=100):
    """A load that compiles, where nothing is there yet."""
    with compiled.caching(folder, device, driver) as place:
        blob = os.path.join(place["CACHE_DIR"], "1.blob")
        fresh = not os.path.exists(blob)
        if fresh:
            with open(blob, "wb") as file:
                file.write(b"x" * size)
    return fresh


def test_the_second_load_finds_what_the_first_left(cache, bare_folder):
    assert fill(bare_folder)
    assert not fill(bare_folder)
    (entry,) = compiled.list_models()
    assert (entry.model, entry.device) == ("tiny, int4", "GPU")
    assert entry.path.parent == compiled.compiled_root() == cache / "compiled"
    assert entry.size > 100


def test_another_device_driver_or_model_is_another_entry(cache, bare_folder, npu_folder):
    assert fill(bare_folder)
    assert fill(bare_folder, device="GPU.1")
    assert fill(bare_folder, driver="2")
    assert fill(npu_folder)
    assert len(compiled.list_models()) == 4


def damage(path):
    path.write_bytes(path.read_bytes()[:-1] + b"y")


@pytest.mark.parametrize(
    "change",
    [
        lambda path: damage(path / "1.blob"),
        lambda path: (path / "1.blob").write_bytes(b""),
        lambda path: (path / "2.blob").write_bytes(b"more"),
        lambda path: damage(path / "seals.json"),
        lambda path: (path / "seals.json").write_text("[]"),
    ],
)
def test_what_was_changed_is_compiled_again(cache, bare_folder, change):
    fill(bare_folder)
    change(compiled.list_models()[0].path)
    assert fill(bare_folder)
    assert not fill(bare_folder)


def test_a_load_that_was_killed_is_compiled_again_when_nobody_can_be_at_it(cache, bare_folder):
    fill(bare_folder)
    path = compiled.list_models()[0].path
    (path / "seals.json").unlink()
    with compiled.caching(bare_folder, "GPU", "1") as place:
        assert place == {}
    assert compiled.list_models()[0].model == "unfinished"
    os.utime(path, (time.time() - 3600, time.time() - 3600))
    assert fill(bare_folder)


def test_over_the_limit_those_not_used_for_longest_go_first(cache, bare_folder, monkeypatch):
    monkeypatch.setattr(compiled, "MAX_CACHE_BYTES", 2_500)
    for i, driver in enumerate("abc"):
        fill(bare_folder, driver=driver, size=1_000)
        for entry in compiled.list_models():
            os.utime(entry.path / "seals.json", (entry.used - 10 * (3 - i), entry.used - 10 * (3 - i)))
    assert len(compiled.list_models()) == 2
    assert fill(bare_folder, driver="a", size=10_000)  # was cleared; too big for the limit, but in use
    (entry,) = compiled.list_models()
    assert entry.size > 10_000
    assert [removed.path for removed in compiled.clear()] == [entry.path]
    assert compiled.list_models() == []


def test_a_cache_that_cannot_be_written_stops_nothing(bare_folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(compiled.CACHE_VARIABLE, str(tmp_path / "file"))
    with compiled.caching(bare_folder, "GPU", "1") as place:
        assert place == {}
    assert compiled.list_models() == []


@pytest.mark.slow
def test_an_engine_uses_it_and_a_damaged_one_changes_nothing(cache, npu_folder):
    def reply(folder, cached=True):
        engine = NPU.load(folder, EMULATED, Options(context=512, cache=cached))
        *deltas, _ = engine.generate(Request(("1 2 3 4",), (), SamplingParams(max_new_tokens=8)))
        engine.close()
        return "".join(delta.text for delta in deltas)

    wanted = reply(npu_folder, cached=False)
    assert compiled.list_models() == []
    assert reply(npu_folder) == wanted
    (entry,) = compiled.list_models()
    (blob,) = entry.path.glob("*.blob")
    stamp = blob.stat().st_mtime_ns
    assert reply(ModelFolder.open(npu_folder.path)) == wanted
    assert blob.stat().st_mtime_ns == stamp
    whole = blob.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"\0" * len(whole), whole[:-4096] + os.urandom(4096)):
        blob.chmod(0o644)  # OpenVINO wrote it for reading alone
        blob.write_bytes(damaged)
        assert reply(npu_folder) == wanted
        assert json.loads((entry.path / "seals.json").read_text())["files"]
        # OpenVINO numbers its nodes for as long as the process lives, and their names are in the file.
        assert blob.stat().st_size == pytest.approx(len(whole), rel=0.01)


def test_a_link_in_the_cache_and_what_is_not_its_own_are_left_alone(cache, bare_folder, tmp_path):
    fill(bare_folder)
    path = compiled.list_models()[0].path
    precious = tmp_path / "precious"
    path.rename(precious)
    path.symlink_to(precious)
    mine = cache / "compiled" / "mine"
    mine.mkdir()
    (mine / "file").touch()
    kept = sorted(file.name for file in precious.iterdir())
    assert compiled.clear() == []
    assert fill(bare_folder)  # the link makes way for a folder
    assert len(compiled.clear()) == 1
    assert sorted(file.name for file in precious.iterdir()) == kept
    assert [file.name for file in mine.iterdir()] == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("name", ["1.blob", "seals.json"])
def test_a_pipe_or_a_link_among_what_is_cached_is_compiled_again(cache, bare_folder, tmp_path, name):
    precious = tmp_path / "precious"
    for put in (os.mkfifo, lambda path: path.symlink_to(precious)):
        fill(bare_folder)
        path = compiled.list_models()[0].path
        precious.write_bytes((path / name).read_bytes())
        before = precious.read_bytes()
        (path / name).unlink()
        put(path / name)
        os.utime(path, (time.time() - 3600, time.time() - 3600))
        assert fill(bare_folder)
        assert not fill(bare_folder)
        assert precious.read_bytes() == before
