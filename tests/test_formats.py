"""A checkpoint's format is a class and a line of a table; what its files say is read once."""

import pytest

from edge.demo import CHECKPOINT
from runtime.checkpoint import formats
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.files import small_files
from runtime.checkpoint.gguf.header import GgufHeader
from runtime.checkpoint.safetensors_folder import SafetensorsFolder
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import CheckpointError

from .ggufs import write_gguf


class Pointer(SafetensorsFolder):
    """A format for this test: a file with the path of a folder."""

    @classmethod
    def accepts(cls, path):
        return path.suffix == ".pointer"

    @classmethod
    def open(cls, path):
        return cls(type(path)(path.read_text()))


def test_a_new_format_is_a_class_and_a_line(tmp_path, monkeypatch):
    path = tmp_path / "demo.pointer"
    path.write_text(str(CHECKPOINT))
    with pytest.raises(CheckpointError, match="not a GGUF file"):
        Checkpoint.open(path)
    monkeypatch.setattr(formats, "FORMATS", (Pointer, *formats.FORMATS))
    opened, original = Checkpoint.open(path), Checkpoint.open(CHECKPOINT)
    assert (opened.config, opened.template) == (original.config, original.template)
    with opened.weights() as weights, CheckpointTensors.open(path) as alone:
        assert weights.names == alone.names
        assert (weights.tensor("model.norm.weight").data == alone.tensor("model.norm.weight").data).all()


def test_config_json_is_parsed_once(monkeypatch):
    names, read = [], small_files.read_file

    def read_file(folder, name, *limit, **where):
        names.append(name)
        return read(folder, name, *limit, **where)

    monkeypatch.setattr(small_files, "read_file", read_file)
    with Checkpoint.open(CHECKPOINT).weights():
        assert names.count("config.json") == 1


@pytest.mark.parametrize("mapped", [True, False])
def test_a_ggufs_header_is_parsed_once(tmp_path, monkeypatch, mapped):
    path = write_gguf(CHECKPOINT, tmp_path / "demo.gguf", "F16")
    read, paths = GgufHeader.read, []
    monkeypatch.setattr(GgufHeader, "read", lambda path: (paths.append(path), read(path))[1])
    checkpoint = Checkpoint.open(path)
    with checkpoint.weights(mapped=mapped) as weights:
        assert weights.tensor("model.norm.weight").data.shape == (weights.architecture.hidden,)
    assert paths == [path]
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match=r"demo\.gguf changed"):
        checkpoint.weights(mapped=mapped)
