"""Too little memory, a full disk for temporary files, a checkpoint that cannot be read on: each with its cure."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convert.pipeline import convert
from edge.demo import CHECKPOINT
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import BackendError, CheckpointError, ConversionError, DiskFull
from runtime.system.out_of_memory import HINT, is_out_of_memory, map_out_of_memory

ROOT = Path(__file__).resolve().parents[1]
SHORT = {
    "Python": MemoryError(),
    "mmap": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "OpenVINO": RuntimeError("Exception from src/x.cpp:1:\nstd::bad_alloc\n"),
    "OpenVINO's kernels": RuntimeError("[CPU] FullyConnected node with name 'a' can't alloc"),
    "a thread of C++": RuntimeError("Resource temporarily unavailable"),
    "a thread of Python": RuntimeError("can't start new thread"),
    "the loader": ImportError("/x/_fblas.so: failed to map segment from shared object"),
    "tokenizers": Exception("Cannot allocate memory (os error 12)"),
    "PyTorch": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
}
OTHERS = {
    "a disk": OSError(errno.ENOSPC, "No space left on device"),
    "a socket": BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    "a package": ImportError("No module named 'openvino'"),
    "a GPU": RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    "a key": KeyError("cannot allocate memory"),
}


@pytest.mark.parametrize("exc", SHORT.values(), ids=SHORT.keys())
def test_little_memory_is_told_whoever_met_it(exc):
    outer = CheckpointError("tokenizer.json is damaged", hint="download it again")
    outer.__cause__ = exc
    with pytest.raises(BackendError, match="too little memory") as caught, map_out_of_memory(BackendError):
        raise outer
    assert caught.value.hint == HINT


@pytest.mark.parametrize("exc", OTHERS.values(), ids=OTHERS.keys())
def test_other_errors_stay_what_they_are(exc):
    assert not is_out_of_memory(exc)
    with pytest.raises(type(exc)) as caught, map_out_of_memory(BackendError):
        raise exc
    assert caught.value is exc


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="addresses are limited on Linux")
@pytest.mark.parametrize("megabytes", [300, 600])
@pytest.mark.parametrize("verb", ["chat", "convert"])
def test_a_verb_with_few_addresses_ends_in_a_line(demo_folder, tmp_path, megabytes, verb):
    import resource

    limit = megabytes << 20
    folders = [str(demo_folder.path)] if verb == "chat" else [str(CHECKPOINT), str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "edge", verb, *folders],
        input="hi",
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert (done.returncode, done.stderr) == (1, f"error: there is too little memory\nhint: {HINT}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "temporary files"),
        (OSError(errno.ENOSPC, "No space left on device", "/elsewhere/tmp1"), "'/elsewhere' is full"),
    ],
)
def test_no_folder_for_temporary_files_is_no_fault_of_the_target(tmp_path, monkeypatch, failure, words):
    def fail(*_):
        raise failure

    monkeypatch.setattr("convert.pipeline.write_tokenizer", fail)
    with pytest.raises(ConversionError, match=words) as caught:
        list(convert(CHECKPOINT, tmp_path / "model"))
    assert "TMPDIR" in caught.value.hint
    assert isinstance(caught.value, DiskFull) == (failure.errno == errno.ENOSPC)


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="a file that cannot be read is Linux's")
def test_a_file_that_its_disk_does_not_give_is_named(tmp_path):
    folder = shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("/proc/self/mem")  # its first byte is EIO
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read: Input/output error") as caught:
        Checkpoint.open(folder)
    assert "disk" in caught.value.hint
