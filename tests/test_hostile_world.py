"""What changes under a conversion while it works: its checkpoint grows shorter, its disk fails, the clock is set."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from convert.pipeline import convert
from runtime.checkpoint.files.unmapped_file import UnmappedFile
from runtime.errors import CheckpointError, ConversionError
from runtime.folder import compile_cache as compiled
from runtime.system import process_name

from .ggufs import write_gguf
from .test_pipeline import write_checkpoint

STAGES = [("check", 2), ("tokenizer", 1), ("compress", 1), ("compress", 5), ("save", 1), ("verify", 1)]
CUTS = [(*stage, left) for stage in STAGES for left in (0, 70_000)]


@pytest.fixture(scope="module")
def safetensors(tmp_path_factory):
    """Each shard has more than a header's worth of bytes."""
    folder = tmp_path_factory.mktemp("source") / "tiny"
    return write_checkpoint(folder, shards=2, hidden=256, ffn=512), "model-00002-of-00002.safetensors"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    from edge.demo import CHECKPOINT

    folder = tmp_path_factory.mktemp("gguf")
    return write_gguf(CHECKPOINT, folder / "x.gguf", "Q8_0").parent, "x.gguf"


def until(steps, name, count):
    """As far as the step of that name, `count` times."""
    while count:
        count -= next(steps).name == name


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_a_checkpoint_that_becomes_shorter_is_an_error_with_its_name(request, tmp_path, kind, cut):
    folder, name = request.getfixturevalue(kind)
    stage, count, left = cut
    source = shutil.copytree(folder, tmp_path / "source")
    steps = convert(source / name if name.endswith("gguf") else source, tmp_path / "model", "int8")
    until(steps, stage, count)
    os.truncate(source / name, left)
    with pytest.raises(CheckpointError, match=f"{name} became shorter while it was read") as caught:
        list(steps)
    assert "download" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.slow
def test_a_download_that_was_done_again_meanwhile_is_an_error(safetensors, tmp_path):
    """Its bytes are all there again at the end; what was read between, nobody knows."""
    folder, name = safetensors
    source = shutil.copytree(folder, tmp_path / "source")
    raw = (source / name).read_bytes()
    steps = convert(source, tmp_path / "model", "bf16")
    until(steps, "verify", 1)
    os.truncate(source / name, 0)
    (source / name).write_bytes(raw)
    os.utime(source / name, ns=(1, 1))
    with pytest.raises(CheckpointError, match=f"{name} changed while it was read"):
        list(steps)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_disk_that_fails_is_the_checkpoint_s(safetensors, tmp_path, monkeypatch):
    folder, _ = safetensors
    steps = convert(folder, tmp_path / "model", "int8")
    until(steps, "compress", 1)

    def fail(self, begin, out):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(UnmappedFile, "read", fail)
    with pytest.raises(CheckpointError, match=r"model-0000\d-of-00002.safetensors cannot be read") as caught:
        list(steps)
    assert "checkpoint" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_conversion_maps_no_file_of_its_checkpoint(safetensors, tmp_path):
    folder, _ = safetensors
    for step in convert(folder, tmp_path / "model", "int4"):
        assert str(folder) not in Path("/proc/self/maps").read_text(), step


@pytest.mark.slow
@pytest.mark.parametrize("step", [-86400, 3600, 10**9])
def test_a_clock_that_is_set_ends_no_living_conversion(tmp_path, monkeypatch, step):
    source = write_checkpoint(tmp_path / "source")
    first = convert(source, tmp_path / "model", "bf16")
    next(first)
    created = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + step)
    if sys.platform == "linux":
        with pytest.raises(ConversionError, match="being converted already"):
            next(convert(source, tmp_path / "model", "bf16"))
    *_, last = first
    last.result.verify()


@pytest.mark.skipif(sys.platform != "linux", reason="the start of a process is a time of day")
def test_a_process_is_named_by_its_boot_and_its_start():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name.process_name(child.pid)
    pid, ticks, boot = name.split("-")
    assert process_name.is_alive(name)
    assert not process_name.is_alive(f"{pid}-{int(ticks) + 1}-{boot}")
    assert not process_name.is_alive(f"{pid}-{ticks}-{'0' * 8}")
    child.send_signal(signal.SIGKILL)
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert not process_name.is_alive(name)
    child.communicate()
    assert not process_name.is_alive(name)
    assert not process_name.is_alive("999999999999-1")
    assert not any(map(process_name.is_process_name, ["", "1", "1-", "1-2-", "1-2-3", "1-2-0123456x", "../1-2"]))


def test_a_clock_that_is_set_takes_no_model_from_whoever_compiles_it(bare_folder, tmp_path, monkeypatch):
    monkeypatch.setenv(compiled.CACHE_VARIABLE, str(tmp_path / "cache"))
    with compiled.caching(bare_folder, "GPU", "1") as place:
        folder = Path(place["CACHE_DIR"])
        (folder / "1.blob").write_bytes(b"x")
        os.utime(folder, (1, 1))
        with compiled.caching(bare_folder, "GPU", "1") as second:
            assert second == {}
        assert (folder / "1.blob").exists()
    assert compiled.list_models()[0].model != "unfinished"
    (folder / "seals.json").unlink()
    (folder.with_suffix(".compiling")).write_text("4000000-1")  # a load that was killed
    with compiled.caching(bare_folder, "GPU", "1") as place:
        assert place == {"CACHE_DIR": str(folder)}
        assert list(folder.iterdir()) == []
