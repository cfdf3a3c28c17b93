import logging
from dataclasses import replace
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from convert.graph import EMBEDDING, HEAD, build_decoder, uncompressed_weights
from convert.output.ir_writer import IrWriter
from convert.recipe import RECIPES
from convert.weights.compress import compress, matrix_kind
from convert.weights.nncf import record_compression, whole_model_options
from convert.weights.sensitivity import measure_sensitivities, most_sensitive, presumed_sensitive
from runtime.checkpoint.tensors import CheckpointTensors

from .checkpoints import Tiny

CHECKPOINTS = {
    "bf16": Tiny(layers=1, hidden=256, head_dim=64, ffn=384, dtype="bf16"),
    "f16, with biases": Tiny(layers=1, hidden=256, format="glm", dtype="f16", qkv_bias=True),
    "mixed dtypes, odd columns": Tiny(layers=1, hidden=72, dtype="mixed"),
    "chatglm": Tiny(layers=1, hidden=128, format="chatglm", dtype="f32", qkv_bias=True),
}
CHECKPOINT_NAMES = ("model.", "lm_head.")
# int4-g32 stands for int4-g64
COMPRESSED = [
    r for r in RECIPES.values() if r.linear and not r.needs_calibration and not r.keep_blocks and r.name != "int4-g64"
]
WRITERS = []  # the constants of their files are read until the tests are over


@pytest.fixture(params=CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
def checkpoint(request, tmp_path):
    with CheckpointTensors.open(request.param.write(tmp_path)) as checkpoint:
        yield checkpoint


def left_in_8_bits(checkpoint, recipe):
    return () if recipe.ratio == 1 else most_sensitive(list(measure_sensitivities(checkpoint, recipe)), recipe.ratio)


def all_weights(checkpoint, recipe):
    with TemporaryDirectory() as folder, IrWriter(Path(folder) / "model.xml", 2**24) as ir:
        WRITERS.append(ir)
        return list(compress(checkpoint, recipe, ir, left_in_8_bits(checkpoint, recipe)))


def one_by_one(checkpoint, recipe):
    weights = {weight.name: weight.node for weight in all_weights(checkpoint, recipe)}
    model = build_decoder(checkpoint.architecture, weights.__getitem__)
    record_compression(model, recipe)
    return model


def as_a_whole(checkpoint, recipe):
    """The whole decoder through NNCF, as everybody does it; but for RoPE's frequencies, which it would round."""
    import nncf

    model = build_decoder(checkpoint.architecture, uncompressed_weights(checkpoint))
    rope = [op.get_friendly_name() for op in model.get_ops() if op.get_type_name() == "MatMul" and not named(op)]
    given = whole_model_options(recipe) | {"ignored_scope": nncf.IgnoredScope(names=rope)}
    nncf.set_log_level(logging.ERROR)
    return nncf.compress_weights(model, mode=nncf.CompressWeightsMode(recipe.linear), **given)


def named(matmul):
    """Whether this MatMul's matrix is one of the checkpoint's."""
    node = matmul.input_value(1).get_node()
    while node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return node.get_friendly_name().startswith(CHECKPOINT_NAMES)


def constants(model):
    """Type, shape and bytes of every constant; those of the checkpoint by name, the graph's own as they come."""
    found = {}
    for op in model.get_ordered_ops():
        if op.get_type_name() == "Constant":
            name = op.get_friendly_name() if op.get_friendly_name().startswith(CHECKPOINT_NAMES) else "graph"
            type_, shape = str(op.get_element_type()), tuple(op.get_output_shape(0))
            found.setdefault(name, []).append((type_, shape, op.data.tobytes()))
    return {name: sorted(values) if name == "graph" else values for name, values in found.items()}


def notes(model):
    found = {key: str(value) for key, value in model.get_rt_info(["nncf", "weight_compression"]).value.items()}
    return {key: value for key, value in found.items() if key != "ignored_scope"}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", COMPRESSED, ids=lambda r: r.name)
def test_one_by_one_is_bit_for_bit_what_nncf_gives_on_the_whole(checkpoint, recipe):
    ours, whole = one_by_one(checkpoint, recipe), as_a_whole(checkpoint, recipe)
    assert constants(ours) == constants(whole)
    assert len(ours.get_ops()) == len(whole.get_ops())
    assert notes(ours) == notes(whole)
    assert ours.get_rt_info(["nncf", "version"]).value == whole.get_rt_info(["nncf", "version"]).value


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [RECIPES[name] for name in ("int4", "int4-asym", "int8")], ids=lambda r: r.name)
def test_rows_compressed_apart_are_the_same(checkpoint, monkeypatch, recipe):
    at_once = one_by_one(checkpoint, recipe)
    monkeypatch.setattr(
        "convert.weights.nncf.BLOCK", 50 * checkpoint.architecture.hidden + 3
    )  # the last block is smaller
    apart = one_by_one(checkpoint, recipe)
    assert constants(apart) == constants(at_once)
    assert [op.get_type_name() for op in apart.get_ordered_ops()] == [
        op.get_type_name() for op in at_once.get_ordered_ops()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int4", "int4-small", "int4-npu", "int8", "bf16"])
def test_tied_embeddings_are_compressed_once(tmp_path, name):
    recipe = RECIPES[name]
    with CheckpointTensors.open(Tiny(layers=1, hidden=128, tied=True, dtype="bf16").write(tmp_path)) as checkpoint:
        ours = constants(one_by_one(checkpoint, recipe))
        assert len(ours[EMBEDDING]) == 1
        assert not any(name.startswith(HEAD) for name in ours)
        if recipe.linear:
            whole = constants(as_a_whole(checkpoint, recipe))
            assert all(ours[name] == whole[name] for name in ours if name != "graph")


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.3, 0.6, 0.8, 0.95])
def test_the_choice_of_what_stays_in_8_bits_is_nncfs(tmp_path, ratio):
    """Of several layers, some with columns that no group divides."""
    recipe = replace(RECIPES["int4-mixed"], ratio=ratio)
    tiny = Tiny(layers=4, hidden=128, ffn=200, vocab=64, dtype="bf16", seed=round(100 * ratio))
    with CheckpointTensors.open(tiny.write(tmp_path)) as checkpoint:
        left = left_in_8_bits(checkpoint, recipe)
        assert 0 < len(left) < 20
        weights = dict(checkpoint.architecture.shapes())
        most = presumed_sensitive(checkpoint.architecture, recipe)
        chosen, most = (sum(prod(weights[name]) for name in names) for names in (left, most))
        assert chosen <= most
        assert constants(one_by_one(checkpoint, recipe)) == constants(as_a_whole(checkpoint, recipe))


def test_uncompressed_is_the_checkpoint_itself(checkpoint):
    found = constants(one_by_one(checkpoint, RECIPES["bf16"]))
    for name in checkpoint.names:
        tensor = checkpoint.tensor(name)
        data = tensor.data if len(tensor.shape) == 2 else tensor.f32()
        assert [value[2] for value in found[name]] == [data.tobytes()]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_sizes_are_those_that_the_recipe_tells(checkpoint, recipe):
    """Also that NNCF's own fallback, where a group does not fit, is the one we tell of."""
    found = constants(one_by_one(checkpoint, recipe))
    left = left_in_8_bits(checkpoint, recipe)
    for name in checkpoint.names:
        tensor = checkpoint.tensor(name)
        if len(tensor.shape) == 2:
            size = sum(len(value[2]) for key in found if key.startswith(name) for value in found[key])
            kind = {"kind": matrix_kind(name), "sensitive": name in left}
            assert size == recipe.nbytes(*tensor.shape, **kind, source_bits=8 * tensor.data.itemsize)


def test_progress_and_notes(tmp_path):
    with CheckpointTensors.open(Tiny(ffn=192, hidden=128, dtype="bf16").write(tmp_path)) as checkpoint:
        weights = all_weights(checkpoint, RECIPES["int4"])
        assert tuple(weight.name for weight in weights) == checkpoint.names
        for weight in weights:
            assert weight.nbytes == checkpoint.tensor(weight.name).data.nbytes
            assert bool(weight.note) is weight.name.endswith("down_proj.weight")


def test_nncf_is_silent_and_reports_to_nobody(tmp_path, capfd):
    import nncf
    from nncf.telemetry.wrapper import telemetry

    level = logging.getLogger("nncf").level
    with CheckpointTensors.open(Tiny(layers=1).write(tmp_path)) as checkpoint:
        all_weights(checkpoint, RECIPES["int4"])
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("nncf").level == level
    assert not isinstance(telemetry, nncf.telemetry.wrapper.NNCFTelemetry)


@pytest.mark.slow
def test_values_stay_near(tmp_path):
    """What the nodes yield, against the checkpoint."""
    import openvino as ov

    with CheckpointTensors.open(Tiny(layers=1, hidden=128, dtype="f16").write(tmp_path)) as checkpoint:
        for name, worst in {"int4": 0.15, "int4-npu": 0.2, "nf4-npu": 0.2, "int8": 0.02, "bf16": 0.0}.items():
            for weight in all_weights(checkpoint, RECIPES[name]):
                model = ov.Model([ov.opset13.result(weight.node)], [], "weight")
                found = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])[0]
                wanted = checkpoint.tensor(weight.name).f32()
                assert np.linalg.norm(found - wanted) <= worst * np.linalg.norm(wanted), (name, weight.name)
