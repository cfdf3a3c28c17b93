"""Where no file can be mapped, the same is read, compressed and refused, and only what is used is in memory."""

import errno
import mmap
import os

import numpy as np
import pytest

from convert.pipeline import convert
from convert.source.damage import DamageCheck
from runtime.backends.backend import Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.files.unmapped_file import UnmappedFile
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import CheckpointError
from runtime.sampling import SamplingParams
from runtime.system.files import read_model_properties

from .checkpoints import Tiny
from .ggufs import write_gguf
from .test_pipeline import write_checkpoint


@pytest.fixture
def unmapped(monkeypatch):
    """A function after which files are not mapped, with this error."""

    def refuse(number):
        def fail(file, *_, **__):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(mmap, "mmap", fail)

    return refuse


SOURCES = {
    "bf16": lambda folder: Tiny(dtype="bf16", shards=2).write(folder / "source"),
    "fused": lambda folder: Tiny(format="chatglm", qkv_bias=True, dtype="f16").write(folder / "source"),
    "f32": lambda folder: Tiny(tied=True, format="glm").write(folder / "source"),
    "gguf": lambda folder: write_gguf(Tiny(hidden=256, ffn=256).write(folder / "plain"), folder / "x.gguf", "Q8_0"),
}


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EINVAL])
@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES.keys())
def test_the_same_is_read(tmp_path, unmapped, write, number):
    path = write(tmp_path)
    mapped = CheckpointTensors.open(path)
    wanted = {name: mapped.tensor(name) for name in mapped.names}
    fingerprint = mapped.fingerprint()
    unmapped(number)
    with CheckpointTensors.open(path) as checkpoint:
        for name, tensor in wanted.items():
            found = checkpoint.tensor(name)
            assert (found.shape, found.dtype, found.nbytes) == (tensor.shape, tensor.dtype, tensor.nbytes)
            assert not found.mappable
            np.testing.assert_array_equal(found.data, tensor.data)
            np.testing.assert_array_equal(found.f32(), tensor.f32())
            np.testing.assert_array_equal(found.rows(3, 9).f32(), tensor.rows(3, 9).f32())
            np.testing.assert_array_equal(found.rows(3, 9).rows(2, 100).data, tensor.rows(3, 9).rows(2, 100).data)
            np.testing.assert_array_equal(
                found.gather(np.array([5, 0, 5])).f32(), tensor.gather(np.array([5, 0, 5])).f32()
            )
        checkpoint.release()
        assert checkpoint.fingerprint() == fingerprint


def test_another_error_is_told(tmp_path, unmapped):
    source = Tiny().write(tmp_path)
    unmapped(errno.EMFILE)
    with pytest.raises(CheckpointError, match=os.strerror(errno.EMFILE)):
        CheckpointTensors.open(source)


def test_rows_are_read_when_they_are_asked_for(tmp_path, unmapped, monkeypatch):
    read = []
    whole = UnmappedFile.read

    def noted(self, begin, out):
        read.append(len(out))
        whole(self, begin, out)

    source = Tiny(dtype="bf16").write(tmp_path)
    unmapped(errno.ENODEV)
    monkeypatch.setattr(UnmappedFile, "read", noted)
    with CheckpointTensors.open(source) as checkpoint:
        read.clear()
        matrix = checkpoint.tensor("model.embed_tokens.weight")
        assert (matrix.nbytes, matrix.rows(0, 50).nbytes, read) == (160 * 64 * 2, 50 * 64 * 2, [])
        matrix.rows(10, 12).f32()
        assert read == [2 * 64 * 2]


def test_a_file_that_grew_shorter_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"12345678")
    file = UnmappedFile(tmp_path / "file")
    assert file[2:6] == b"3456"
    with pytest.raises(OSError, match="cut short"):
        file[4:12]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["int4", "bf16"])
def test_a_checkpoint_converts_and_chats(tmp_path, unmapped, recipe):
    source = write_checkpoint(tmp_path / "source", dtype="bf16")
    *_, mapped = convert(source, tmp_path / "mapped", recipe)
    unmapped(errno.ENODEV)
    *_, last = convert(source, tmp_path / "model", recipe)
    weights = "openvino_model.bin"
    assert last.result.manifest.files[weights] == mapped.result.manifest.files[weights]
    assert read_model_properties(tmp_path / "model" / "openvino_model.bin") == {"ENABLE_MMAP": False}
    engine = OpenVINO.load(last.result, "CPU", Options())
    *deltas, _ = engine.generate(Request(("hello",), (), SamplingParams(max_new_tokens=4)))
    engine.close()
    assert deltas


def test_damage_is_found_piece_by_piece(tmp_path, unmapped, monkeypatch):
    source = write_checkpoint(tmp_path / "source", hidden=256, layers=1)
    folder = Checkpoint.open(source)
    raw = bytearray((source / "model.safetensors").read_bytes())
    (file,) = folder.files.weight_files({}, mapped=False)
    begin = file.entries["model.embed_tokens.weight"].begin + 77 * 1024
    raw[begin : begin + 1024] = bytes(1024)
    (source / "model.safetensors").write_bytes(raw)
    unmapped(errno.ENODEV)
    monkeypatch.setattr("convert.source.damage._READ_BYTES", 10 * 1024)
    with (
        folder.weights() as checkpoint,
        pytest.raises(CheckpointError, match="for 1 tokens in use, the first being 77"),
    ):
        DamageCheck(checkpoint, folder.tokenizer).check(checkpoint.tensor("model.embed_tokens.weight"))
