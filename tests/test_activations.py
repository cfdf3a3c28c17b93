from dataclasses import replace

import numpy as np
import openvino as ov
import pytest
from openvino import PartialShape, Type

from convert.check.layerwise import whole_model_logits
from convert.check.reference import (
    EXACT,
    BoundBlock,
    compile_on_cpu,
    head_model,
    layer_model,
    layer_tensor_name,
    logits,
    named_input,
    norm_model,
    run_in_chunks,
    run_layer,
)
from convert.graph import EMBEDDING, DecoderBlocks, build_decoder, uncompressed_weights
from convert.output.ir_writer import IrWriter
from convert.recipe import RECIPES, get_recipe
from convert.weights.activations import Activations, ScaledMatrix
from convert.weights.compress import compress
from convert.weights.nncf import record_compression
from runtime.checkpoint.tensors import CheckpointTensors

from .checkpoints import Tiny

CALIBRATED = [recipe for recipe in RECIPES.values() if recipe.needs_calibration]
TEXTS = [np.random.default_rng(3).integers(0, 160, length) for length in (70, 3, 110)]
UNSEEN = [np.random.default_rng(4).integers(0, 160, 64)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    tiny = Tiny(layers=2, hidden=128, ffn=256, dtype="bf16", qkv_bias=True)
    with CheckpointTensors.open(tiny.write(tmp_path_factory.mktemp("tiny"))) as checkpoint:
        yield checkpoint


@pytest.fixture(autouse=True, scope="module")
def few_samples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convert.weights.activations.SAMPLE_TOKENS", 16)
        yield


@pytest.fixture(scope="module")
def nodes(checkpoint, tmp_path_factory):
    """The checkpoint's compressed weights, by a function of the recipe; the writers stay as long as they."""
    found, folder = {}, tmp_path_factory.mktemp("ir")

    def compressed(recipe):
        if recipe.name not in found:
            path = folder / f"{recipe.name}.xml"
            found[recipe.name] = write(checkpoint, recipe, path)
        return found[recipe.name][0]

    return compressed


def write(checkpoint, recipe, path):
    with IrWriter(path, 2**24) as ir:
        activations = Activations(checkpoint, recipe, TEXTS) if recipe.needs_calibration else None
        return {w.name: w.node for w in compress(checkpoint, recipe, ir, activations=activations)}, ir


def values(node):
    return ov.Core().compile_model(ov.Model([ov.opset13.result(node)], [], "one"), "CPU", EXACT)([])[0]


def test_the_inputs_are_those_of_the_decoder(checkpoint):
    """Of the first layer's attention: the embedding, normed."""
    a = checkpoint.architecture
    activations = Activations(checkpoint, RECIPES["int4-gptq"], TEXTS)
    _, given = activations.prepare(checkpoint.tensor("model.layers.0.self_attn.k_proj.weight"))
    (found,) = given["dataset"].get_inference_data()
    x = checkpoint.tensor(EMBEDDING).f32()[np.concatenate(TEXTS)]
    norm = checkpoint.tensor("model.layers.0.input_layernorm.weight").f32()
    np.testing.assert_allclose(found, x / np.sqrt((x**2).mean(-1, keepdims=True) + a.norm_eps) * norm, atol=1e-5)


@pytest.mark.parametrize("awq", [False, True])
def test_what_awq_moves_changes_nothing_by_itself(checkpoint, awq):
    """The matrices as they go to NNCF, in place of the checkpoint's: the same logits."""
    recipe = replace(RECIPES["int4-awq"], awq=awq)
    activations = Activations(checkpoint, recipe, TEXTS)
    stored = uncompressed_weights(checkpoint)
    weights, scaled = {}, 0
    for name in checkpoint.names:
        weights[name] = stored(name)
        if name.startswith("model.layers.") and len(checkpoint.tensor(name).shape) == 2:
            matrix, _ = activations.prepare(checkpoint.tensor(name))
            if isinstance(matrix, ScaledMatrix):
                scaled += not np.array_equal(matrix.rows(0, 512).data, checkpoint.tensor(name).f32())
                weights[name] = ov.opset13.constant(matrix.rows(0, matrix.shape[0]).data)
    assert scaled == (4 if awq else 0), "gate_up and down of both layers"
    (found,) = whole_model_logits(build_decoder(checkpoint.architecture, weights.__getitem__), UNSEEN)
    np.testing.assert_allclose(found, logits(checkpoint, UNSEEN)[0], atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", CALIBRATED, ids=lambda recipe: recipe.name)
def test_the_decoder_says_what_its_layers_say_one_by_one(checkpoint, nodes, recipe):
    a, weights = checkpoint.architecture, nodes(recipe)
    (whole,) = whole_model_logits(build_decoder(a, weights.__getitem__), UNSEEN)
    ends, ids = DecoderBlocks(a, weights.__getitem__), named_input("x", PartialShape([1, -1]), Type.i64)
    embedding = ov.Model([ov.opset13.result(ends.embedding(ids))], [ids], "embedding")
    x = BoundBlock(compile_on_cpu(embedding)).run({"x": UNSEEN[0][np.newaxis]})[0][0]
    for layer in range(a.layers):
        blocks = DecoderBlocks(a, lambda name, layer=layer: weights[layer_tensor_name(name, layer)])
        run_layer(BoundBlock(compile_on_cpu(layer_model(blocks))), a, x)
    run_in_chunks(BoundBlock(compile_on_cpu(norm_model(ends))), x)
    (found,) = BoundBlock(compile_on_cpu(head_model(ends))).run({"x": x[np.newaxis]})[0]
    np.testing.assert_allclose(found, whole, atol=1e-3)


@pytest.mark.slow
def test_each_serves_the_outputs_of_the_layers(checkpoint, nodes):
    """The error of what the matrices yield on the texts, against that of int4 without texts."""
    name = "model.layers.1.mlp.gate_up_proj.weight"
    activations = Activations(checkpoint, RECIPES["int4-gptq"], TEXTS)
    (inputs,) = activations.prepare(checkpoint.tensor(name))[1]["dataset"].get_inference_data()
    wanted = inputs @ checkpoint.tensor(name).f32().T
    errors = {
        recipe: float(np.square(inputs @ values(nodes(RECIPES[recipe])[name]).T - wanted).mean())
        for recipe in ("int4", "int4-scale", "int4-gptq")
    }
    assert errors["int4-scale"] < 0.97 * errors["int4"]
    assert errors["int4-gptq"] < 0.8 * errors["int4"]


@pytest.mark.slow
def test_the_graph_and_its_size_are_those_of_int4(checkpoint, nodes):
    def described(recipe):
        model = build_decoder(checkpoint.architecture, nodes(recipe).__getitem__)
        record_compression(model, recipe)
        return model

    models = {name: described(get_recipe(name)) for name in ("int4", "int4+awq+scale")}
    kinds = {name: [op.get_type_name() for op in model.get_ordered_ops()] for name, model in models.items()}
    assert sorted(kinds["int4"]) == sorted(kinds["int4+awq+scale"])
    notes = models["int4+awq+scale"].get_rt_info(["nncf", "weight_compression"]).value
    assert {key: str(notes[key]) for key in ("awq", "scale_estimation", "gptq")} == {
        "awq": "True",
        "scale_estimation": "True",
        "gptq": "False",
    }


@pytest.mark.slow
def test_the_same_texts_give_the_same_bytes_in_silence(tmp_path, capfd):
    with CheckpointTensors.open(Tiny(layers=1, hidden=128, ffn=128, dtype="f16").write(tmp_path)) as checkpoint:
        for name in ("first", "second"):
            write(checkpoint, get_recipe("int4+awq+scale"), tmp_path / f"{name}.xml")
    first, second = ((tmp_path / f"{name}.bin").read_bytes() for name in ("first", "second"))
    assert first == second
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int4+awq+scale", "int4-gptq", "int4-mixed+gptq"])
def test_what_no_group_divides_is_int8(tmp_path, name):
    with CheckpointTensors.open(Tiny(layers=1, hidden=72, ffn=200, dtype="f32").write(tmp_path)) as checkpoint:
        written = [write(checkpoint, get_recipe(one), tmp_path / f"{one}.xml") for one in (name, "int4")]
        fitted, plain = (weights for weights, _ in written)
        changed = {
            one for one in fitted if "_proj" in one and not np.array_equal(values(fitted[one]), values(plain[one]))
        }
    assert changed == {"model.layers.0.self_attn.o_proj.weight"}  # it has 128 columns
