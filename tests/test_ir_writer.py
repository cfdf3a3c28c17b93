"""The IR that grows weight by weight is the one that OpenVINO's own serialiser would write."""

import gc
from dataclasses import replace

import numpy as np
import openvino as ov
import pytest

from convert.graph import build_decoder
from convert.output.ir_writer import IrWriter
from convert.recipe import RECIPES
from convert.weights.compress import compress
from convert.weights.nncf import record_compression
from runtime.checkpoint.tensors import CheckpointTensors

from .checkpoints import Tiny

TINY = Tiny(layers=2, hidden=128, head_dim=64, ffn=256, vocab=600, dtype="bf16", qkv_bias=True)


def constants(model):
    found = [op for op in model.get_ordered_ops() if op.get_type_name() == "Constant"]
    return [(op.get_friendly_name(), str(op.get_element_type()), op.data.tobytes()) for op in found]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
@pytest.mark.parametrize("tied", [False, True])
def test_it_reads_back_as_what_openvino_writes(tmp_path, recipe, tied):
    path = tmp_path / "model.xml"
    with (
        CheckpointTensors.open(replace(TINY, tied=tied).write(tmp_path / "source")) as checkpoint,
        IrWriter(path, 10_000_000) as ir,
    ):
        weights = {weight.name: weight.node for weight in compress(checkpoint, recipe, ir)}
        model = build_decoder(checkpoint.architecture, weights.__getitem__)
        record_compression(model, recipe)
        ir.save(model)
        excerpt = ir.xml(build_decoder(replace(checkpoint.architecture, layers=1), weights.__getitem__))
        ov.save_model(model, tmp_path / "theirs.xml", compress_to_fp16=False)
        del weights, model
        gc.collect()
    core = ov.Core()
    ours, theirs = core.read_model(path), core.read_model(tmp_path / "theirs.xml")
    assert constants(ours) == constants(theirs)
    assert [op.get_type_name() for op in ours.get_ordered_ops()] == [
        op.get_type_name() for op in theirs.get_ordered_ops()
    ]
    size = path.with_suffix(".bin").stat().st_size
    assert size < 1.1 * (tmp_path / "theirs.bin").stat().st_size
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model.bin",
        "model.xml",
        "source",
        "theirs.bin",
        "theirs.xml",
    ]

    first = core.read_model(excerpt, ov.Tensor(np.fromfile(path.with_suffix(".bin"), np.uint8)))
    named = {name: data for name, _, data in constants(ours)}
    kept = [(name, data) for name, _, data in constants(first) if name.startswith(("model.", "lm_head."))]
    assert {name.split(".")[2] for name, _ in kept if ".layers." in name} == {"0"}
    assert all(named[name] == data for name, data in kept)


def test_what_is_larger_than_estimated_is_refused(tmp_path):
    with (
        CheckpointTensors.open(TINY.write(tmp_path / "source")) as checkpoint,
        IrWriter(tmp_path / "model.xml", 100_000) as ir,
        pytest.raises(RuntimeError, match="more than the estimated 100,000 bytes"),
    ):
        list(compress(checkpoint, RECIPES["bf16"], ir))
