"""ONNX files of exported decoders: the same weights and answers as from the checkpoint that they were exported from."""

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("torch")  # exports the files

from convert.check.reference import logits
from convert.output.ir_writer import IrWriter
from convert.pipeline import convert
from convert.recipe import RECIPES
from convert.source.onnx_decoder import OnnxDecoder
from convert.weights.compress import compress
from runtime.backends.backend import Options, Request
from runtime.backends.choose import choose
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.single_request.stateful import Stateful
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import BackendError, CheckpointError, ConversionError
from runtime.events import Finish
from runtime.folder.ir import IR
from runtime.folder.model_folder import ModelFolder
from runtime.sampling import SamplingParams

from .onnx_exports import export
from .test_pipeline import write_checkpoint

EXACT = Options(precision="f32", kv_precision="f32")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source") / "tiny", qkv_bias=True, hidden=128, ffn=128)


@pytest.fixture(scope="module")
def file(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(checkpoint, tmp_path_factory.mktemp("onnx") / "exported")


@pytest.fixture(scope="module")
def converted(file: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    *_, last = convert(file.parent, tmp_path_factory.mktemp("model") / "bf16", "bf16")
    assert last.result is not None
    return ModelFolder.open(last.result.path)


@pytest.mark.parametrize(
    "name", ["model.norm.weight", "model.layers.0.mlp.down_proj.weight", "model.embed_tokens.weight", "lm_head.weight"]
)
def test_zeros_where_weights_should_be_are_refused(checkpoint: Path, file: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(file.parent, folder)
    with CheckpointTensors.open(checkpoint) as opened:
        values = opened.tensor(name).f32()
    raw = file.read_bytes()
    for stored in (values.tobytes(), np.ascontiguousarray(values.T).tobytes()):
        if (begin := raw.find(stored)) >= 0:
            middle = begin + len(stored) // 2
            raw = raw[:middle] + bytes(len(stored) // 2) + raw[begin + len(stored) :]
    (folder / "model.onnx").write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"in model.onnx .* zero") as caught:
        list(convert(folder, tmp_path / "model", "int8"))
    assert "download" in caught.value.hint
    assert not (tmp_path / "model").exists()


def test_the_file_answers_as_its_checkpoint(checkpoint: Path, file: Path) -> None:
    ids = [np.arange(40) * 3, np.arange(7)]
    with CheckpointTensors.open(checkpoint) as opened:
        decoder = OnnxDecoder.open(file, opened.architecture)
        for found, wanted in zip(decoder.logits(ids), logits(opened, ids), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("recipe", ["int4", "int8"])
def test_its_weights_are_compressed_as_the_checkpoint_s_are(
    recipe: str, checkpoint: Path, file: Path, tmp_path: Path
) -> None:
    def hashes(source: Any, name: str) -> set[str]:
        """Of the compressed weights, each without the operations around it."""
        with IrWriter(tmp_path / f"{name}.xml", 2**24) as ir:
            nodes = [weight.node for weight in compress(source, RECIPES[recipe], ir) if "norm" not in weight.name]
            matrices = [_weight(node) for node in nodes if len(node.get_output_shape(0)) == 2]
            return {sha256(constant.data.tobytes()).hexdigest() for constant in matrices}

    with CheckpointTensors.open(checkpoint) as opened:
        found = hashes(OnnxDecoder.open(file, opened.architecture), "onnx")
        assert found == hashes(opened, "checkpoint")
        assert len(found) == 8


def _weight(node: Any) -> Any:
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node


def test_the_model_folder_says_what_it_is_not(converted: ModelFolder, file: Path) -> None:
    converted.verify()
    manifest = converted.manifest
    assert not manifest.paged
    assert "no PagedAttention" in manifest.notes[0]
    assert (manifest.source.architecture, manifest.recipe) == ("Glm4ForCausalLM", "bf16")
    assert len(manifest.source.fingerprint) == 64
    assert manifest.verification["mean_kl"] < 1e-5
    assert "its attention is written out" in "; ".join(IR.read(converted).npu_obstacles())
    with pytest.raises(BackendError, match="ScaledDotProductAttention"):
        OpenVINO.load(converted, "CPU", Options())


@pytest.mark.slow
def test_it_replies_as_the_checkpoint_does(converted: ModelFolder, checkpoint: Path, tmp_path: Path) -> None:
    *_, last = convert(checkpoint, tmp_path / "paged", "bf16")
    assert last.result is not None
    said = []
    for folder in (converted, last.result):
        choice = choose("CPU", folder)
        assert choice.backend is (OpenVINO if folder.manifest.paged else Stateful)
        backend = choice.backend.load(folder, "CPU", EXACT)
        request = Request(("[gMASK]<sop><|user|>\nHello<|assistant|>",), (), SamplingParams(max_new_tokens=24))
        for _ in range(2):  # the second does not remember the first
            *deltas, finish = backend.generate(request)
            assert isinstance(finish, Finish)
            said.append(("".join(delta.text for delta in deltas), finish.reason))  # type: ignore[union-attr]
        backend.close()
    assert said[0][0]
    assert len(set(said)) == 1


def test_it_may_lie_in_a_folder_of_its_own_and_its_weights_beside_it(file: Path, tmp_path: Path) -> None:
    """As the hub's exports do: …/onnx/model.onnx and model.onnx_data, its texts above."""
    import onnx

    source = tmp_path / "source"
    shutil.copytree(file.parent, source, ignore=shutil.ignore_patterns("*.onnx"))
    (source / "onnx").mkdir()
    onnx.save(onnx.load(file), source / "onnx" / "model.onnx", save_as_external_data=True, location="model.onnx_data")
    *_, last = convert(source, tmp_path / "model", "int8")
    assert last.result is not None
    manifest = last.result.manifest
    assert (manifest.source.name, manifest.paged) == ("source", False)
    assert manifest.verification["mean_kl"] < 0.1
    decoder = OnnxDecoder.open(source / "onnx" / "model.onnx", Checkpoint.open(source).architecture)
    assert decoder.fingerprint() == manifest.source.fingerprint
    data = source / "onnx" / "model.onnx_data"
    data.write_bytes(b"\0" + data.read_bytes()[1:])
    assert decoder.fingerprint() != manifest.source.fingerprint


@pytest.mark.parametrize("stage", ["tokenizer", "compress", "verify", "save"])
def test_weights_that_become_shorter_while_they_are_read_are_an_error(file: Path, tmp_path: Path, stage: str) -> None:
    import onnx

    source = shutil.copytree(file.parent, tmp_path / "source")
    onnx.save(onnx.load(file), source / "model.onnx", save_as_external_data=True, location="model.onnx_data")
    steps = convert(source, tmp_path / "model", "int8")
    while next(steps).name != stage:
        pass
    os.truncate(source / "model.onnx_data", 5000)
    with pytest.raises(CheckpointError, match=r"model\.onnx_data became shorter while it was read"):
        list(steps)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_cannot_be_is_refused_in_one_line(file: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(file.parent, source)
    architecture = Checkpoint.open(source).architecture
    with pytest.raises(ConversionError, match="the recipe stored is not for an ONNX file"):
        list(convert(source, tmp_path / "model", "stored"))
    with pytest.raises(CheckpointError, match="no file"):
        list(convert(source / "other.onnx", tmp_path / "model"))
    config = json.loads((source / "config.json").read_text())
    for change, message in (
        ({"num_hidden_layers": 2}, "a cache for 1 layers, but config.json has 2"),
        ({"head_dim": 64}, r"not \(batch,2,tokens,64\)"),
        ({"vocab_size": config["vocab_size"] + 1}, "no matrix of"),
    ):
        (source / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(CheckpointError, match=message) as caught:
            list(convert(source, tmp_path / "model"))
        assert caught.value.hint
    (source / "model.onnx").write_bytes((source / "model.onnx").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"OpenVINO cannot read model\.onnx") as caught:
        OnnxDecoder.open(source / "model.onnx", architecture)
    assert "\n" not in str(caught.value)
