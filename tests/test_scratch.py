"""A conversion changes nothing but its own folder, whatever fails and whatever somebody has put beside it."""

import errno
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from convert.output import scratch
from convert.pipeline import convert
from edge.cli import main
from runtime.errors import ConversionError
from runtime.folder.model_folder import ModelFolder
from runtime.system.process_name import is_alive

from .test_pipeline import cut_short, write_checkpoint

resource = pytest.importorskip("resource", reason="limits, links and signals of POSIX")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("source") / "tiny", layers=2)


@pytest.fixture
def limited():
    """A function after which this process writes no file beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def seen(*folders):
    """Every file with its kind, content or target."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            kind = stat.S_IFMT(path.lstat().st_mode)
            content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[path] = (kind, content)
    return found


def keep_inside(monkeypatch, parent):
    """Let OpenVINO's serializer see no path that is outside `parent`."""
    import openvino

    def kept(serialize):
        def inside(model, *paths, **options):
            assert all(parent in Path(path).parents for path in paths), paths
            return serialize(model, *paths, **options)

        return inside

    for name in ("serialize", "save_model"):
        monkeypatch.setattr(openvino, name, kept(getattr(openvino, name)))


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 60_000])
def test_a_write_that_fails_at_any_stage_changes_nothing_else(checkpoint, tmp_path, monkeypatch, limited, size):
    """`null` stands for /dev/null. OpenVINO's serializer removes what it cannot write: it gets our own files only."""
    outside, parent = tmp_path / "outside", tmp_path / "parent"
    outside.mkdir()
    parent.mkdir()
    (outside / "null").touch()
    monkeypatch.setattr(os, "devnull", str(outside / "null"))
    keep_inside(monkeypatch, parent)
    steps = [(step.name, step.detail) for step in convert(checkpoint, parent / "whole", "int8")]
    before = seen(outside, checkpoint, parent)
    stages = {name: number for number, (name, _) in reversed([*enumerate(steps)])}
    stages |= {f"last of {name}": number for number, (name, _) in enumerate(steps[:-1])}
    for stage, number in stages.items():
        steps = convert(checkpoint, parent / "model", "int8")
        for _ in range(number + 1):
            next(steps)
        limited(size)
        if (size and stage not in {"check", "last of check", "compress"}) or stage == "last of seal":
            with suppress(ConversionError):  # what is left to write may be small enough
                list(steps)
                shutil.rmtree(parent / "model")
        else:
            with pytest.raises(
                ConversionError, match=r"does not support files of this size|cannot be written: file too large"
            ):
                list(steps)
        limited(resource.RLIM_INFINITY)
        assert seen(outside, checkpoint, parent) == before, stage


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.EOPNOTSUPP, errno.EACCES])
def test_a_folder_need_not_reach_the_disk_at_once_but_a_file_must(checkpoint, tmp_path, monkeypatch, number):
    real = os.fsync

    def fsync(descriptor, kind=stat.S_ISDIR):
        if kind(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    list(convert(checkpoint, tmp_path / "model", "bf16"))
    ModelFolder.open(tmp_path / "model").verify()
    monkeypatch.setattr(os, "fsync", lambda descriptor: fsync(descriptor, stat.S_ISREG))
    with pytest.raises(ConversionError, match=os.strerror(number).lower()):
        list(convert(checkpoint, tmp_path / "other", "bf16"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


LEFT = ".model.partial-4000000-1"  # no process has this number


def link_for_the_folder(left, precious):
    left.symlink_to(precious, target_is_directory=True)


def link_among_files(name, to="file"):
    def put(left, precious):
        left.mkdir(exist_ok=True)
        (left / name).unlink(missing_ok=True)
        (left / name).symlink_to(precious / to)

    return put


def hard_link(left, precious):
    left.mkdir()
    os.link(precious / "file", left / "openvino_model.bin")


def pipe(name):
    def put(left, precious):
        left.mkdir()
        os.mkfifo(left / name)

    return put


@pytest.mark.slow
@pytest.mark.parametrize(
    "put",
    [
        link_for_the_folder,
        link_among_files("openvino_model.bin"),
        link_among_files("openvino_model.jsonl"),
        link_among_files("tokenizer.json"),
        link_among_files("edge.json", "none"),
        link_among_files("folder", ""),
        hard_link,
        pipe("openvino_model.bin"),
        pipe("openvino_model.jsonl"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_what_a_leftover_points_to_is_not_touched(checkpoint, tmp_path, put, begun):
    precious, parent = tmp_path / "precious", tmp_path / "parent"
    precious.mkdir()
    parent.mkdir()
    (precious / "file").write_bytes(b"x")
    if begun and "link_among" in put.__qualname__:
        cut_short(checkpoint, parent, 9)
    put(parent / LEFT, precious)
    before = seen(precious)
    list(convert(checkpoint, parent / "model", "int8"))
    ModelFolder.open(parent / "model").verify()
    assert seen(precious) == before
    assert [path.name for path in parent.iterdir()] == ["model"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("worth", [0, 2**28])
def test_what_a_signal_cut_short_says_that_it_goes_on(checkpoint, tmp_path, capsys, number, worth):
    before = signal.signal(number, signal.SIG_DFL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "_MIN_RESUMABLE_BYTES", worth)
        patch.setattr("convert.pipeline.copy_text_files", lambda *_: os.kill(os.getpid(), number))
        assert main(["convert", str(checkpoint), str(tmp_path / "model")]) == 128 + number
    signal.signal(number, before)
    goes_on = "" if worth else "; .* and the same conversion resumes from there"
    assert re.fullmatch(f"stopped{goes_on}\n", capsys.readouterr().err)
    assert len(list(tmp_path.iterdir())) == (not worth)


def test_a_file_of_such_a_name_is_left_alone(checkpoint, tmp_path):
    (tmp_path / LEFT).write_text("mine")
    list(convert(checkpoint, tmp_path / "model", "bf16"))
    assert (tmp_path / LEFT).read_text() == "mine"


def test_a_zombie_or_another_process_of_the_number_does_not_convert():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = int(psutil.Process(child.pid).create_time())
    assert is_alive(f"{child.pid}-{start}")
    assert not is_alive(f"{child.pid}-{start - 1000}")
    os.kill(child.pid, signal.SIGKILL)
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert not is_alive(f"{child.pid}-{start}")
    child.communicate()
    assert not is_alive(f"{child.pid}-{start}")
