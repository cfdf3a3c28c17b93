"""Quantised checkpoints of the hub: their values, what is taken over as it is, and what is rejected by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from convert.check.decompress import decompress
from convert.job import make_plan
from convert.output.ir_writer import IrWriter
from convert.pipeline import convert
from convert.recipe import get_recipe
from convert.source.damage import DamageCheck
from convert.source.safetensors import SafetensorsSource
from convert.weights.stored import stored_form, stored_size, write_stored
from edge.demo import CHECKPOINT
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.quantized.config import read_quantization
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import CheckpointError, VerificationError

from .checkpoints import Tiny
from .quantized import SCHEMES, awq, bitsandbytes, compressed, gptq, write_quantized

TINY = Tiny(layers=1, qkv_bias=True)
DOWN = "model.layers.0.mlp.down_proj"


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("mapped", [True, False])
def test_values_are_those_that_the_codes_stand_for(name: str, mapped: bool, tmp_path: Path) -> None:
    wanted = write_quantized(TINY.write(tmp_path / "source"), tmp_path / "quantized", SCHEMES[name])
    with CheckpointTensors.open(tmp_path / "quantized", mapped=mapped) as found:
        assert set(found.names) == set(wanted)
        assert len(found.quantized_types) == 1
        for each, values in wanted.items():
            tensor = found.tensor(each)
            assert tensor.shape == values.shape
            np.testing.assert_allclose(tensor.f32(), values, rtol=1e-6, atol=1e-7)
            rows = tensor.rows(3, 9)
            assert len(rows.raw) == len(rows.data) == 6
            np.testing.assert_array_equal(rows.data, tensor.data[3:9])
            np.testing.assert_array_equal(tensor.gather(np.array([5, 0, 5])).f32(), tensor.f32()[[5, 0, 5]])
            assert not tensor.quantization or tensor.decoded().quantization == ""


@pytest.mark.parametrize("name", SCHEMES)
def test_what_openvino_has_a_form_for_is_taken_over(name: str, tmp_path: Path) -> None:
    write_quantized(TINY.write(tmp_path / "source"), tmp_path / "quantized", SCHEMES[name])
    with CheckpointTensors.open(tmp_path / "quantized") as found, IrWriter(tmp_path / "x.xml", 2**20) as ir:
        tensor = found.tensor(f"{DOWN}.weight")
        form = stored_form(tensor)
        assert (form is not None) == SCHEMES[name].kept
        if form is None:
            return
        before, node = ir.size, write_stored(tensor, form, ir)
        assert 0 <= ir.size - before - stored_size(tensor, form) < 3 * 64
        model = ov.Model([ops.result(node)], [], "weight")
        values = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])[0]
        # Scales are f16 in the files of most formats, and in the IR.
        np.testing.assert_allclose(values, tensor.data, rtol=1e-3)
        decompressed = np.empty(tensor.shape, np.float32)
        decompress(node, decompressed)
        np.testing.assert_allclose(decompressed, tensor.data, rtol=1e-3)


@pytest.mark.parametrize("scheme", [gptq(symmetric=False, act_order=True), awq(), bitsandbytes()])
def test_a_module_may_lie_in_several_files(scheme: Any, tmp_path: Path) -> None:
    source = TINY.write(tmp_path / "source")
    wanted = write_quantized(source, tmp_path / "quantized", scheme, shards=3)
    with CheckpointTensors.open(tmp_path / "quantized") as found:
        for name, values in wanted.items():
            np.testing.assert_allclose(found.tensor(name).f32(), values, rtol=1e-6, atol=1e-7)
        assert found.nbytes == sum(path.stat().st_size for path in (tmp_path / "quantized").glob("*.safetensors"))
        assert len(found.fingerprint()) == 64


@pytest.mark.parametrize("scheme", [gptq(), gptq(symmetric=False, act_order=True), compressed(symmetric=False)])
def test_gate_and_up_of_two_modules_are_one_matrix(scheme: Any, tmp_path: Path) -> None:
    wanted = write_quantized(TINY.write(tmp_path / "source"), tmp_path / "quantized", scheme, split=True)
    with CheckpointTensors.open(tmp_path / "quantized") as found:
        name = "model.layers.0.mlp.gate_up_proj.weight"
        tensor = found.tensor(name)
        np.testing.assert_allclose(tensor.f32(), wanted[name], rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(tensor.rows(90, 100).data, tensor.data[90:100])  # the seam is at row 96
        np.testing.assert_array_equal(tensor.rows(100, 110).data, tensor.data[100:110])


def test_the_original_format_has_q_k_and_v_in_one_module(tmp_path: Path) -> None:
    tiny = Tiny(format="chatglm", layers=1, qkv_bias=True)
    wanted = write_quantized(tiny.write(tmp_path / "source"), tmp_path / "quantized", gptq(symmetric=False))
    with CheckpointTensors.open(tmp_path / "quantized") as found:
        fused = wanted["transformer.encoder.layers.0.self_attention.query_key_value.weight"]
        parts = [found.tensor(f"model.layers.0.self_attn.{letter}_proj.weight") for letter in "qkv"]
        np.testing.assert_allclose(np.concatenate([part.f32() for part in parts]), fused, rtol=1e-6, atol=1e-7)
        form = stored_form(parts[1])
        assert form is not None
        with IrWriter(tmp_path / "x.xml", 2**20) as ir:
            out = np.empty(parts[1].shape, np.float32)
            decompress(write_stored(parts[1], form, ir), out)
        np.testing.assert_allclose(out, parts[1].data, rtol=1e-3)


def test_a_bf16_scale_and_modules_that_are_not_quantised(tmp_path: Path) -> None:
    """As llm-compressor writes them: scales in the model's dtype, and the ignored modules as they were."""
    source = TINY.write(tmp_path / "source")
    scheme = compressed()

    def pack(values: Any) -> Any:
        if values.shape[1] == TINY.ffn:  # down_proj is ignored
            return scheme.pack(values)._replace(tensors={"weight": values}, values=values)
        found = scheme.pack(values)
        bits = found.tensors["weight_scale"].astype(np.float32).view(np.uint32) >> 16
        old, new = found.tensors["weight_scale"].astype(np.float32), (bits << 16).view(np.float32)
        tensors = found.tensors | {"weight_scale": bits.astype(np.uint16)}
        values = found.values.reshape(*new.shape, -1) / old[..., None] * new[..., None]
        return found._replace(
            tensors=tensors, values=values.reshape(found.values.shape), dtypes={"weight_scale": "BF16"}
        )

    wanted = write_quantized(source, tmp_path / "quantized", scheme._replace(pack=pack))
    with CheckpointTensors.open(tmp_path / "quantized") as found:
        for name, values in wanted.items():
            np.testing.assert_allclose(found.tensor(name).f32(), values, rtol=1e-5, atol=1e-6)
        assert found.tensor(f"{DOWN}.weight").quantization == ""


def test_bitsandbytes_stores_its_codes_under_another_dtype(tmp_path: Path) -> None:
    """By bnb_4bit_quant_storage, for training over several GPUs."""

    def pack(values: Any) -> Any:
        found = bitsandbytes().pack(values)
        codes = found.tensors["weight"].reshape(-1).view(np.float32).reshape(-1, 1)
        return found._replace(tensors=found.tensors | {"weight": codes})

    scheme = bitsandbytes()._replace(pack=pack)
    wanted = write_quantized(TINY.write(tmp_path / "source"), tmp_path / "quantized", scheme)
    with CheckpointTensors.open(tmp_path / "quantized", mapped=False) as found:
        for name, values in wanted.items():
            np.testing.assert_allclose(found.tensor(name).f32(), values, rtol=1e-6, atol=1e-7)


REJECTED: dict[str, tuple[dict[str, Any], str]] = {
    "2 bits": ({"quant_method": "gptq", "bits": 2}, "GPTQ in 2 bits"),
    "3 bits": ({"quant_method": "gptq", "bits": 3}, "GPTQ in 3 bits"),
    "marlin": ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "GPTQ in the format marlin"),
    "an old marlin": ({"quant_method": "gptq", "bits": 4, "is_marlin_format": True}, "GPTQ in the format marlin"),
    "AWQ's GEMV": ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "AWQ in the layout gemv"),
    "exl2": ({"quant_method": "exl2", "bits": 4.5}, "by exl2"),
    "hqq": ({"quant_method": "hqq"}, "by hqq"),
    "quanto": ({"quant_method": "quanto", "weights": "int4"}, "by quanto"),
    "eetq": ({"quant_method": "eetq"}, "by eetq"),
    "modelopt's nvfp4": ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "modelopt NVFP4"),
    "auto-round": ({"quant_method": "auto-round", "packing_format": "auto_round:exllamav3"}, "auto_round:exllamav3"),
    "nvfp4": ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "format nvfp4-pack-quantized"),
    "a sparse one": (
        {"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}},
        "sparse weights .sparse-24-bitmask",
    ),
    "no method": ({}, "by None"),
    "no object": ("gptq", "not an object"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", REJECTED)
def test_other_quantisations_are_rejected_by_name(name: str) -> None:
    found, message = REJECTED[name]
    with pytest.raises(CheckpointError, match=message) as caught:
        read_quantization({"quantization_config": found or {"bits": 4}})
    assert "original" in caught.value.hint


@pytest.mark.parametrize(
    ("config", "method", "offset"),
    [
        ({"quant_method": "auto-round", "bits": 4, "packing_format": "auto_round:auto_gptq"}, "gptq", 1),
        ({"quant_method": "auto-round", "bits": 4, "packing_format": "auto_round:auto_awq"}, "awq", 0),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}, "gptq", 0),
        ({"quant_method": "gptq", "bits": 4}, "gptq", 1),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", 0),
        ({"load_in_4bit": True}, "bitsandbytes", 0),
    ],
)
def test_methods_of_several_names(config: dict[str, Any], method: str, offset: int) -> None:
    found = read_quantization({"quantization_config": config})
    assert found is not None
    assert (found.method, found.zero_offset) == (method, offset)


Harm = Callable[[dict[str, Any]], None]
COMPRESSED: dict[str, tuple[Harm, str]] = {
    "scales of fewer rows": (
        lambda found: found.update(weight_scale=found["weight_scale"][:8]),
        "weight_scale has the shape",
    ),
    "another shape": (lambda found: found.update(weight_shape=np.array([64, 80])), "weight_packed has the shape"),
    "a shape of floats": (
        lambda found: found.update(weight_shape=np.array([np.nan, 1], np.float32)),
        "weight_shape has the dtype 'F32'",
    ),
    "zero points not packed": (
        lambda found: found.update(weight_zero_point=np.ones((64, 3), np.int32)),
        "weight_zero_point has the shape",
    ),
}
DAMAGED: dict[str, tuple[Harm, str]] = {
    "no scales": (lambda found: found.pop("scales"), "scales is missing"),
    "scales of another matrix": (lambda found: found.update(scales=found["scales"][:, :8]), "scales have the shape"),
    "3 bits": (lambda found: found.update(qzeros=found["qzeros"][:, :6]), "it has 3 bits a weight"),
    "codes in floats": (lambda found: found.update(qweight=found["scales"]), "qweight has the dtype 'F16'"),
    "groups beyond the scales": (lambda found: found.update(g_idx=found["g_idx"] + 3), "g_idx does not name"),
}


@pytest.mark.parametrize("name", [*DAMAGED, *COMPRESSED])
def test_tensors_that_do_not_fit_together_are_named(name: str, tmp_path: Path) -> None:
    harm, message = (DAMAGED | COMPRESSED)[name]
    scheme = gptq() if name in DAMAGED else compressed()

    def pack(values: Any) -> Any:
        found = scheme.pack(values)
        if values.shape[1] == TINY.ffn:
            harm(found.tensors)
        return found

    write_quantized(TINY.write(tmp_path / "source"), tmp_path / "quantized", scheme._replace(pack=pack))
    with pytest.raises(CheckpointError, match=message) as caught:
        CheckpointTensors.open(tmp_path / "quantized")
    assert DOWN in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("scheme", [gptq(), awq(), compressed(), bitsandbytes()])
@pytest.mark.parametrize("harm", ["zeros", "NaN"])
def test_damage_is_found_in_the_files_own_tensors(scheme: Any, harm: str, tmp_path: Path) -> None:
    if harm == "NaN" and "bitsandbytes" in scheme.config["quant_method"]:
        scheme = bitsandbytes(nested=False)

    def pack(values: Any) -> Any:
        found = scheme.pack(values)
        for name, array in found.tensors.items():
            if harm == "zeros" and name in ("qweight", "weight_packed", "weight"):
                found.tensors[name] = np.where(np.arange(len(array))[:, None] < len(array) // 2, array, 0).astype(
                    array.dtype
                )
            if harm == "NaN" and name in ("scales", "weight_scale", "weight.absmax"):
                found.tensors[name] = np.where(np.arange(array.size).reshape(array.shape) == 7, np.nan, array).astype(
                    array.dtype
                )
        return found

    source = tmp_path / "source"
    source.mkdir()
    for file in CHECKPOINT.iterdir():
        if file.suffix != ".safetensors":
            (source / file.name).write_bytes(file.read_bytes())
    config = json.loads((CHECKPOINT / "config.json").read_text())
    Tiny(layers=1, config={}, hidden=256, ffn=512, vocab=config["vocab_size"]).write(source)
    write_quantized(source, tmp_path / "quantized", scheme._replace(pack=pack))
    tokenizer = Checkpoint.open(tmp_path / "quantized").tokenizer
    with CheckpointTensors.open(tmp_path / "quantized", mapped=False) as found:
        check = DamageCheck(found, tokenizer)
        check.check(found.tensor("model.norm.weight"))
        error: Any = CheckpointError if harm == "zeros" else VerificationError
        with pytest.raises(error, match="zeros in a row" if harm == "zeros" else "NaN or infinity") as caught:
            check.check(found.tensor(f"{DOWN}.weight"))
        assert DOWN in str(caught.value)
        assert "model.safetensors" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "recipe", "notes"),
    [
        (gptq(symmetric=False), "stored", "int8_asym"),
        (compressed(), "int8", ""),
        (gptq(act_order=True), "stored", "no GPTQ int4 with reordered columns in groups"),
        (bitsandbytes(), "int8", ""),
    ],
)
def test_the_embedded_checkpoint_converts(scheme: Any, recipe: str, notes: str, tmp_path: Path) -> None:
    write_quantized(CHECKPOINT, tmp_path / "quantized", scheme)
    *_, last = convert(tmp_path / "quantized", tmp_path / "model", recipe)
    assert last.result is not None
    manifest = last.result.manifest
    assert any(note.startswith("made from weights in") for note in manifest.notes)
    assert any(notes in note for note in manifest.notes)
    assert manifest.sizes is not None
    assert 0 < manifest.sizes.weights <= (tmp_path / "model" / "openvino_model.bin").stat().st_size
    assert manifest.verification["mean_kl"] < 0.05
    assert "quantization_config" not in json.loads((tmp_path / "model" / "config.json").read_text())


@pytest.mark.parametrize(
    ("scheme", "recipe"),
    [
        (gptq(), "stored"),
        (awq(), "stored"),
        (gptq(bits=8), "int4-fit"),
        (gptq(act_order=True), "int4-fit"),
        (bitsandbytes(), "int4-fit"),
    ],
)
def test_int4_is_not_quantised_again_by_default(scheme: Any, recipe: str, tmp_path: Path) -> None:
    write_quantized(CHECKPOINT, tmp_path / "quantized", scheme)
    source = SafetensorsSource.open(tmp_path / "quantized")
    assert source.default_recipe == recipe
    plan = make_plan(source, get_recipe(recipe), ())
    assert plan.estimate.sizes.weights > 0
    source.close()
