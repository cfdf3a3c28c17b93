"""LoRA adapters: merged by rows as numpy merges them whole, and rejected by name where they do not fit."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from convert.pipeline import convert
from edge.demo import CHECKPOINT
from edge.evaluation.target import EvaluationTarget
from runtime.checkpoint.adapters.adapter import open_adapters
from runtime.checkpoint.adapters.reference import AdapterReference
from runtime.checkpoint.architecture import read_architecture
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import CheckpointError, ConversionError, EdgeError, RequestError, VerificationError
from runtime.source import open_source

from .adapters import merged, random_adapter, to_bf16, write_adapter, write_weights
from .checkpoints import Tiny
from .test_pipeline import write_checkpoint

FORMATS = ("glm4", "glm", "chatglm")


def open_merged(folder, *adapters):
    """A checkpoint's tensors without a tokenizer, adapters merged."""
    with CheckpointTensors.open(folder) as plain:
        architecture = plain.architecture
    found = CheckpointTensors.open(folder)
    found.adapters = open_adapters(architecture, adapters)
    return found


def values(tensors):
    return {name: tensors.tensor(name).f32() for name in tensors.names}


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        # f32 sums may differ in the last bit, which a rounding to bf16 turns into one step of that.
        assert np.abs(found[name] - value).max() <= np.abs(value).max() * 2**-7, name
        assert (found[name] != value).mean() < 0.001, name


CASES = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "alpha patterns": {"alpha_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 16, "query_key_value": 32}},
    "rank patterns": {"rank_pattern": {r"layers\.0\..*": 2}},
}


def scaling(config):
    """The factors of a case, written out."""

    def scale(module):
        alpha = next((a for end, a in config.get("alpha_pattern", {}).items() if module.endswith(end)), 8)
        rank = 2 if "rank_pattern" in config and "layers.0." in module else 4
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)

    return scale


def tensors_of(stored, config, seed=1):
    found = random_adapter(stored, seed=seed)
    if "rank_pattern" in config:
        found |= random_adapter(stored, r".*layers\.0\..*(?:proj|dense|query|dense_.*|value)", rank=2, seed=seed)
    return found


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("case", CASES)
def test_a_merge_by_rows_is_numpy_s(tmp_path, format, case, monkeypatch):
    monkeypatch.setattr("runtime.checkpoint.adapters.merged_rows._BLOCK", 1000)  # several blocks a matrix
    tiny, config = Tiny(format, dtype="bf16", qkv_bias=True), CASES[case]
    tiny.write(tmp_path / "base")
    stored = {name: to_bf16_cut(value) for name, value in tiny.stored().items()}
    tensors = tensors_of(stored, config)
    write_adapter(tmp_path / "adapter", tensors, **config)
    wanted = {name: to_bf16(value) for name, value in merged(stored, tensors, scaling(config)).items()}
    write_weights(tmp_path / "base", tiny, wanted)
    with CheckpointTensors.open(tmp_path / "base") as whole:
        expected = values(whole)
    tiny.write(tmp_path / "base")
    with open_merged(tmp_path / "base", tmp_path / "adapter") as found:
        assert_equal(values(found), expected)
        assert len(found.adapters.updates) == 6 * tiny.layers


def to_bf16_cut(value):
    """A tiny checkpoint's weights as they are in the file: cut to bf16."""
    return (value.view(np.uint32) & 0xFFFF0000).view(np.float32)


@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_a_merge_keeps_the_type_of_the_base(tmp_path, dtype):
    tiny = Tiny(dtype=dtype)
    tiny.write(tmp_path / "base")
    tensors = random_adapter(tiny.stored())
    write_adapter(tmp_path / "adapter", tensors)
    with open_merged(tmp_path / "base", tmp_path / "adapter") as found:
        name = "model.layers.1.mlp.down_proj.weight"
        assert found.tensor(name).dtype == dtype
        assert np.allclose(found.tensor(name).f32(), merged(tiny.stored(), tensors)[name], atol=2e-3)
        indices = np.array([3, 0, 63])
        assert np.array_equal(found.tensor(name).gather(indices).f32(), found.tensor(name).f32()[indices])
        assert np.array_equal(found.tensor(name).rows(5, 9).rows(1, 3).f32(), found.tensor(name).f32()[6:8])


@pytest.mark.parametrize("format", FORMATS)
def test_dora_scales_each_row_to_its_length(tmp_path, format):
    tiny = Tiny(format)
    tiny.write(tmp_path / "base")
    stored, random = tiny.stored(), np.random.default_rng(2)
    tensors = random_adapter(stored)
    for name in [name for name in tensors if "lora_A" in name]:
        module = name.removesuffix(".lora_A.weight")
        rows = len(stored[f"{module}.weight"])
        tensors[f"{module}.lora_magnitude_vector"] = random.uniform(0.5, 2, rows).astype(np.float32)
    write_adapter(tmp_path / "adapter", tensors, use_dora=True)
    write_weights(tmp_path / "base", tiny, merged(stored, tensors))
    with CheckpointTensors.open(tmp_path / "base") as whole:
        expected = values(whole)
    tiny.write(tmp_path / "base")
    with open_merged(tmp_path / "base", tmp_path / "adapter") as found:
        for name, value in values(found).items():
            assert np.allclose(value, expected[name], atol=1e-5), name


def test_several_adapters_add_up_with_their_weights(tmp_path):
    tiny = Tiny()
    tiny.write(tmp_path / "base")
    stored = tiny.stored()
    first, second = (
        random_adapter(stored, ".*q_proj|.*down_proj"),
        random_adapter(stored, ".*down_proj", rank=3, seed=5),
    )
    write_adapter(tmp_path / "first", first)
    write_adapter(tmp_path / "second", second, r=3, lora_alpha=3)
    wanted = merged(merged(stored, first), second, lambda _: -0.5)
    with open_merged(tmp_path / "base", tmp_path / "first", f"{tmp_path / 'second'}@-0.5") as found:
        for name, value in values(found).items():
            assert np.allclose(value, wanted[name], atol=1e-5), name
        assert [(r.name, r.weight, len(r.sha256)) for r in found.adapters.records] == [
            ("first", 1.0, 64),
            ("second", -0.5, 64),
        ]


@pytest.mark.parametrize("format", FORMATS)
def test_modules_to_save_replace_tensors_and_an_embedding_may_have_an_update(tmp_path, format):
    tiny = Tiny(format)
    tiny.write(tmp_path / "base")
    stored = tiny.stored()
    head = next(name for name in stored if "lm_head" in name or "output_layer" in name)
    norm = next(name for name in stored if "final_layernorm" in name or name == "model.norm.weight")
    tensors = random_adapter(stored, ".*embed.*|.*dense_h_to_4h|.*gate_up_proj")
    tensors |= {head: stored[head] * np.float32(2), norm: stored[norm] + np.float32(1)}
    write_adapter(tmp_path / "adapter", tensors, modules_to_save=["lm_head", "norm"])
    write_weights(tmp_path / "base", tiny, merged(stored, tensors))
    with CheckpointTensors.open(tmp_path / "base") as whole:
        expected = values(whole)
    tiny.write(tmp_path / "base")
    with open_merged(tmp_path / "base", tmp_path / "adapter") as found:
        for name, value in values(found).items():
            assert np.allclose(value, expected[name], atol=1e-5), name
        assert "adapter_model.safetensors of adapter" in found.describe_location("lm_head.weight")


def test_an_adapter_of_the_hf_format_fits_the_original_one(tmp_path):
    Tiny("chatglm").write(tmp_path / "original")
    Tiny("glm").write(tmp_path / "hf")
    write_adapter(tmp_path / "adapter", random_adapter(Tiny("glm").stored()))
    with (
        open_merged(tmp_path / "original", tmp_path / "adapter") as original,
        open_merged(tmp_path / "hf", tmp_path / "adapter") as hf,
    ):
        for name, value in values(hf).items():
            assert np.allclose(values(original)[name], value, atol=1e-6), name


Q = "model.layers.0.self_attn.q_proj"
LORA_A, LORA_B = np.ones((4, 64), np.float32), np.ones((128, 4), np.float32)
GOOD = {f"{Q}.lora_A.weight": LORA_A, f"{Q}.lora_B.weight": LORA_B}
REJECTED = {  # tensors, fields of the config, what the error names
    "bias": (GOOD, {"bias": "lora_only"}, "bias is 'lora_only'"),
    "fan_in_fan_out": (GOOD, {"fan_in_fan_out": True}, "fan_in_fan_out is True"),
    "lora_bias": (GOOD, {"lora_bias": True}, "lora_bias is True"),
    "layer replication": (GOOD, {"layer_replication": [[0, 1], [0, 1]]}, "layer_replication is"),
    "trainable tokens": (GOOD, {"trainable_token_indices": [1, 2]}, "trainable_token_indices is"),
    "parameters": (GOOD, {"target_parameters": ["x"]}, "target_parameters is"),
    "activated LoRA": (GOOD, {"alora_invocation_tokens": [1]}, "alora_invocation_tokens is"),
    "a field of the future": (GOOD, {"use_xlora": True}, "use_xlora is True"),
    "PiSSA": (GOOD, {"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
    "P-Tuning": (GOOD, {"peft_type": "PREFIX_TUNING"}, "peft_type is 'PREFIX_TUNING'; only LORA"),
    "no type": (GOOD, {"peft_type": None}, "peft_type is None"),
    "a rank of 0": (GOOD, {"r": 0}, "r is 0"),
    "an alpha that is none": (GOOD, {"lora_alpha": "8"}, "lora_alpha is '8'"),
    "a slow pattern": (GOOD, {"alpha_pattern": {"(a+)+": 1}}, r"pattern '\(a\+\)\+' of alpha_pattern is too complex"),
    "a broken pattern": (GOOD, {"rank_pattern": {"(q": 1}}, "is not a regular expression"),
    "an unknown module": ({"model.layers.0.self_attn.qkv.lora_A.weight": LORA_A}, {}, "self_attn.qkv.lora_A.weight'"),
    "a layer too many": (
        {name.replace("layers.0", "layers.9"): value for name, value in GOOD.items()},
        {},
        "layers.9.self_attn.q_proj.lora_A.weight' of the adapter adapter belongs to no tensor of this Glm4ForCausalLM",
    ),
    "an unknown tensor": (GOOD | {f"{Q}.lora_C": LORA_A}, {}, "lora_C' of the adapter adapter belongs to no tensor"),
    "a lone A": ({f"{Q}.lora_A.weight": LORA_A}, {}, "lora_A.weight' without lora_B"),
    "another width": (
        GOOD | {f"{Q}.lora_A.weight": LORA_A[:, :60]},
        {},
        r"q_proj.lora_A.weight' of the adapter adapter has the shape \[4, 60\], .* require \[4, 64\]",
    ),
    "another rank": (GOOD, {"r": 8}, r"lora_A.weight' .* has the shape \[4, 64\], .* require \[8, 64\]"),
    "a resized vocabulary": (
        {"model.embed_tokens.weight": np.ones((200, 64), np.float32)},
        {},
        r"embed_tokens.weight' .* has the shape \[200, 64\]",
    ),
    "magnitudes without DoRA": (
        GOOD | {f"{Q}.lora_magnitude_vector": np.ones(128, np.float32)},
        {},
        "cannot be merged as DoRA",
    ),
    "DoRA without magnitudes": (GOOD, {"use_dora": True}, "has no DoRA magnitudes"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_what_is_not_carried_out_is_rejected_by_name(tmp_path, case):
    tensors, config, named = REJECTED[case]
    write_adapter(tmp_path / "adapter", tensors, base_model_name_or_path="zai-org/GLM-4-9B-0414", **config)
    architecture = read_architecture(Tiny().config_json())
    with pytest.raises(CheckpointError, match=named) as caught:
        open_adapters(architecture, [tmp_path / "adapter"])
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_fields_that_only_describe_the_training_are_accepted(tmp_path):
    config = {
        "auto_mapping": None, "corda_config": None, "ensure_weight_tying": False, "eva_config": None,
        "inference_mode": True, "layers_to_transform": [0], "loftq_config": {}, "lora_dropout": 0.1,
        "megatron_core": "megatron.core", "peft_version": "0.21.2", "qalora_group_size": 16, "revision": "main",
        "target_modules": ["q_proj"], "use_qalora": False, "init_lora_weights": "gaussian",
    }  # fmt: skip
    write_adapter(tmp_path / "adapter", GOOD, **config)
    found = open_adapters(read_architecture(Tiny().config_json()), [tmp_path / "adapter"])
    assert list(found.updates) == [f"{Q}.weight"]


def test_a_tied_embedding_is_not_changed_for_one_of_its_uses(tmp_path):
    tiny = Tiny("glm", tied=True)
    write_adapter(tmp_path / "adapter", random_adapter(tiny.stored(), ".*embed.*"))
    with pytest.raises(CheckpointError, match="changes an embedding that is the head, too"):
        open_adapters(read_architecture(tiny.config_json()), [tmp_path / "adapter"])


def test_values_that_are_not_finite_are_named(tmp_path):
    tiny = Tiny()
    tiny.write(tmp_path / "base")
    write_adapter(tmp_path / "adapter", GOOD | {f"{Q}.lora_B.weight": np.full((128, 4), np.nan, np.float32)})
    with (
        open_merged(tmp_path / "base", tmp_path / "adapter") as found,
        pytest.raises(CheckpointError, match=r"q_proj.lora_B.weight' of the adapter has NaN"),
    ):
        found.tensor(f"{Q}.weight").f32()


def test_replacements_and_dora_stand_alone(tmp_path):
    architecture = read_architecture(Tiny().config_json())
    head = {"lm_head.weight": np.ones((160, 64), np.float32)}
    first, second = write_adapter(tmp_path / "a", head), write_adapter(tmp_path / "b", head)
    with pytest.raises(CheckpointError, match="replace the same tensor"):
        open_adapters(architecture, [first, second])
    with pytest.raises(CheckpointError, match="which a weight cannot scale"):
        open_adapters(architecture, [f"{first}@0.5"])
    dora = GOOD | {f"{Q}.lora_magnitude_vector": np.ones(128, np.float32)}
    write_adapter(tmp_path / "dora", dora, use_dora=True)
    assert open_adapters(architecture, [tmp_path / "dora"]).records[0].name == "dora"
    with pytest.raises(CheckpointError, match="dora is a DoRA, which cannot be added to others"):
        open_adapters(architecture, [tmp_path / "dora", first])


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [("a", "a", 1.0), ("a@0.5", "a", 0.5), ("a@b", "a@b", 1.0), ("a@b@-2", "a@b", -2.0), ("@3", "@3", 1.0)],
)
def test_a_weight_follows_the_last_at_sign(text, path, weight):
    found = AdapterReference.parse(text)
    assert (found.path, found.weight) == (Path(path).absolute(), weight)


def test_a_weight_is_finite_and_a_folder_comes_first(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match="has the weight nan"):
        AdapterReference.parse("a@nan")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuned@2").mkdir()
    assert AdapterReference.parse("tuned@2").weight == 1.0


def test_what_is_no_adapter_is_told_what_it_is(tmp_path):
    architecture = read_architecture(Tiny().config_json())
    Tiny().write(tmp_path / "model")
    write_adapter(tmp_path / "run" / "checkpoint-500", GOOD)
    write_adapter(tmp_path / "pickle", GOOD)
    (tmp_path / "pickle" / "adapter_model.safetensors").rename(tmp_path / "pickle" / "adapter_model.bin")
    write_adapter(tmp_path / "empty", GOOD)
    (tmp_path / "empty" / "adapter_model.safetensors").unlink()
    for name, message, hint in (
        ("nowhere", "there is no adapter folder", "adapter_config.json"),
        ("model", "is not a LoRA adapter", "without --adapter"),
        ("run", "is not a LoRA adapter", "checkpoint-500"),
        ("pickle", "are a pickle", "safe_serialization"),
        ("empty", "adapter_model.safetensors is missing", "download"),
    ):
        with pytest.raises(CheckpointError, match=message) as caught:
            open_adapters(architecture, [tmp_path / name])
        assert hint in caught.value.hint, name


def test_an_adapter_alone_is_told_its_command(tmp_path):
    folder = write_adapter(tmp_path / "adapter", GOOD, base_model_name_or_path="zai-org/GLM-4-9B-0414")
    wanted = f"edge convert zai-org/GLM-4-9B-0414 FOLDER --adapter {folder}"
    for attempt in (Checkpoint.open, open_source, lambda path: list(convert(path, tmp_path / "target"))):
        with pytest.raises(CheckpointError, match="is a LoRA adapter of zai-org/GLM-4-9B-0414") as caught:
            attempt(folder)
        assert wanted in caught.value.hint
    assert not (tmp_path / "target").exists()


def test_an_adapter_beside_weights_is_not_left_out(tmp_path):
    source = write_checkpoint(tmp_path / "source")
    write_adapter(source, GOOD)
    with pytest.raises(CheckpointError, match="beside its weights") as caught:
        list(convert(source, tmp_path / "target", "bf16"))
    assert f"--adapter {source}" in caught.value.hint
    (*_, last) = convert(source, tmp_path / "target", "bf16", adapters=[str(source)])
    assert [record.name for record in last.result.manifest.adapters] == ["source"]


def test_other_exporters_reject_adapters():
    with pytest.raises(ConversionError, match="optimum-intel"):
        list(convert(CHECKPOINT, "unused", "int4", exporter="optimum", adapters=["x"]))


@pytest.mark.slow
def test_a_converted_adapter_is_the_merged_checkpoint(tmp_path):
    """The IR's weights are those of a checkpoint that was merged before, and the manifest names the adapter."""
    tiny = Tiny("chatglm", dtype="f32", layers=1)
    plain = write_checkpoint(tmp_path / "plain", format="chatglm", dtype="f32")
    stored = Tiny(
        "chatglm", layers=1, vocab=json.loads((plain / "config.json").read_text())["padded_vocab_size"]
    ).stored()
    tensors = random_adapter(stored)
    adapter = write_adapter(tmp_path / "tuned", tensors)
    (*_, first) = convert(plain, tmp_path / "with-adapter", "int8", adapters=[f"{adapter}@0.5"])
    write_weights(plain, tiny, merged(stored, tensors, lambda _: 1.0))
    (*_, second) = convert(plain, tmp_path / "merged", "int8")
    (*_, third) = convert(plain, tmp_path / "again", "int8")
    folders = [step.result.path for step in (first, second, third)]
    weights = [np.frombuffer((folder / "openvino_model.bin").read_bytes(), np.uint8) for folder in folders]
    assert np.array_equal(weights[1], weights[2])
    assert (weights[0] != weights[1]).mean() < 0.01  # roundings of f32
    (record,) = first.result.manifest.adapters
    assert (record.name, record.weight) == ("tuned", 0.5)
    assert json.loads((folders[0] / "edge.json").read_text())["adapters"][0]["sha256"] == record.sha256
    assert second.result.manifest.adapters == ()
    with pytest.raises(VerificationError, match="was converted with the adapter tuned"):
        EvaluationTarget.open(folders[0]).open_checkpoint(plain)


def test_errors_are_ours(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{")
    with pytest.raises(EdgeError, match="not readable JSON"):
        open_adapters(read_architecture(Tiny().config_json()), [tmp_path / "adapter"])
