"""Logits of the graph against transformers, in f32. `pytest tests/test_graph.py -rP` shows the differences."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from convert.check.reference import logits
from convert.graph import build_decoder, inverse_frequencies, uncompressed_weights
from runtime.checkpoint.tensors import CheckpointTensors

from .checkpoints import YARN, Tiny

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-3
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}  # some CPUs compute in bf16 by default
YARN_5 = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
YARN_FULL = {**YARN_5, "beta_fast": 16.0, "beta_slow": 2.0, "mscale": 0.7, "mscale_all_dim": 0.4, "truncate": False}

VARIANTS = {
    "glm4": Tiny(context=2048),
    "glm": Tiny(format="glm", qkv_bias=True),
    "chatglm": Tiny(format="chatglm", qkv_bias=True, dtype="bf16", theta=5e6),
    "chatglm all heads": Tiny(format="chatglm", kv_heads=4),
    "chatglm tied": Tiny(format="chatglm", tied=True, shards=2),
    "glm4 1 group": Tiny(kv_heads=1),
    "glm4 4 groups of 8": Tiny(heads=8, kv_heads=4, head_dim=16),
    "glm4 all heads": Tiny(kv_heads=4),
    "glm4 bias": Tiny(qkv_bias=True),
    "glm4 tied bf16": Tiny(tied=True, dtype="bf16"),
    "glm4 f16 in shards": Tiny(dtype="f16", shards=3),
    "glm4 mixed dtypes": Tiny(dtype="mixed"),
    "glm-edge": Tiny(format="glm", rotary=1.0, tied=True),
    "glm4 yarn, as in the README": Tiny(context=2048, config={"rope_scaling": YARN}),
    "glm4 yarn, rope_type": Tiny(context=2048, config={"rope_scaling": YARN_5}),
    "glm4 yarn, attention factor": Tiny(context=2048, config={"rope_scaling": {**YARN_5, "attention_factor": 0.8}}),
    "glm4 yarn, every key": Tiny(context=2048, config={"rope_scaling": YARN_FULL}),
    "glm4 linear": Tiny(context=2048, config={"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "glm linear, as transformers 5 saves it": Tiny(
        format="glm",
        config={
            "rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 5e5, "partial_rotary_factor": 0.5}
        },
    ),
    "glm4 dynamic": Tiny(context=2048, config={"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
    "glm4 as transformers 5 saves it": Tiny(
        context=2048, config={"rope_parameters": {**YARN_5, "rope_theta": 5e5, "partial_rotary_factor": 0.25}}
    ),
}


@pytest.fixture(params=VARIANTS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return request.param, *load(VARIANTS[request.param], tmp_path)


def load(tiny: Tiny, folder: Path) -> tuple[CheckpointTensors, Any]:
    """The checkpoint, and transformers' model of the same weights in f32."""
    checkpoint = CheckpointTensors.open(tiny.write(folder / "checkpoint"))
    # transformers has no code of its own for the original format; the same weights in the other one are its equal.
    known = tiny if tiny.format != "chatglm" else replace(tiny, format="glm")
    config = {"rope_scaling": {**known.config["rope_scaling"]}} if "rope_scaling" in known.config else known.config
    path = replace(known, config=config).write(folder / "known")
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    return checkpoint, model.eval()


def texts(checkpoint: CheckpointTensors, *lengths: int) -> list[np.ndarray[Any, Any]]:
    random = np.random.default_rng(7)
    return [random.integers(0, checkpoint.architecture.vocab, length) for length in lengths]


def transformers_logits(model: Any, ids: np.ndarray[Any, Any], **inputs: Any) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        found: np.ndarray[Any, Any] = model(torch.tensor(ids), use_cache=False, **inputs).logits.numpy()
    return found


class Running:
    """The compiled decoder and what it needs to be fed."""

    def __init__(self, checkpoint: CheckpointTensors) -> None:
        self.checkpoint = checkpoint  # the compiled model reads its mapped files
        model = build_decoder(checkpoint.architecture, uncompressed_weights(checkpoint))
        self.request = ov.Core().compile_model(model, "CPU", EXACT).create_infer_request()

    def __call__(self, ids: Any, mask: Any, positions: Any) -> Any:
        beams = np.arange(len(ids), dtype=np.int32)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "beam_idx": beams}
        return self.request.infer(inputs)["logits"]

    def text(self, ids: Any, past: int = 0) -> Any:
        count = past + len(ids)
        return self(ids[None], np.ones((1, count), np.int64), np.arange(past, count)[None])[0]


def agree(what: str, ours: Any, theirs: Any) -> None:
    difference, scale = np.abs(ours - theirs).max(), np.abs(theirs).max()
    print(f"{what:50} max difference {difference:.1e} of {scale:.1f}")
    assert 1 < scale < 100, "logits of this size prove nothing"
    assert difference <= TOLERANCE


@pytest.mark.slow
def test_prefill_decode_and_reference_agree_with_transformers(case: Any) -> None:
    name, checkpoint, theirs = case
    (ids,) = texts(checkpoint, 48)
    wanted = transformers_logits(theirs, ids[None])[0]
    running = Running(checkpoint)
    prefill = running.text(ids[:40])
    steps = [running.text(ids[i : i + 1], past=i) for i in range(40, 48)]
    agree(f"{name}: prefill", prefill, wanted[:40])
    agree(f"{name}: decode", np.concatenate(steps), wanted[40:])
    agree(f"{name}: layer by layer", logits(checkpoint, [ids])[0], wanted)


def test_padding_on_the_left_changes_nothing(case: Any) -> None:
    name, checkpoint, theirs = case
    long, short = texts(checkpoint, 24, 15)
    pad = len(long) - len(short)
    ids = np.stack([long, np.concatenate([np.zeros(pad, np.int64), short])])
    mask = np.ones_like(ids)
    mask[1, :pad] = 0
    positions = np.clip(mask.cumsum(1) - 1, 0, None)
    running = Running(checkpoint)
    first = running(ids[:, :20], mask[:, :20], positions[:, :20])
    second = running(ids[:, 20:], mask, positions[:, 20:])
    both = np.concatenate([first, second], 1)
    agree(f"{name}: unpadded row", both[0], transformers_logits(theirs, long[None])[0])
    agree(f"{name}: padded row", both[1, pad:], transformers_logits(theirs, short[None])[0])


LONG = ["glm4", "glm", "chatglm", "glm-edge", "glm4 yarn, as in the README"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_two_thousand_tokens(name: str, tmp_path: Path) -> None:
    checkpoint, theirs = load(VARIANTS[name], tmp_path)
    (ids,) = texts(checkpoint, 2000)
    wanted = transformers_logits(theirs, ids[None])[0]
    running = Running(checkpoint)
    agree(f"{name}: 1,990 tokens, prefill", running.text(ids[:1990]), wanted[:1990])
    steps = [running.text(ids[i : i + 1], past=i) for i in range(1990, 2000)]
    agree(f"{name}: tokens 1,991 to 2,000, decode", np.concatenate(steps), wanted[1990:])
    agree(f"{name}: 2,000 tokens, layer by layer", logits(checkpoint, [ids])[0], wanted)


@pytest.mark.slow
def test_texts_of_the_reference_do_not_see_one_another(tmp_path: Path) -> None:
    checkpoint = CheckpointTensors.open(Tiny(dtype="mixed").write(tmp_path))
    a, b = texts(checkpoint, 9, 5)
    together = logits(checkpoint, [a, b])
    np.testing.assert_array_equal(together[1], logits(checkpoint, [b])[0])
    assert [table.shape for table in together] == [(9, 160), (5, 160)]


def test_beams_reorder_the_cache(tmp_path: Path) -> None:
    running = Running(CheckpointTensors.open(Tiny().write(tmp_path)))
    ids = np.array([[5, 6, 7], [9, 8, 3]])
    running(ids, np.ones((2, 3), np.int64), np.arange(3)[None].repeat(2, 0))
    inputs = {
        "input_ids": np.array([[1], [1]]),
        "attention_mask": np.ones((2, 4), np.int64),
        "position_ids": np.full((2, 1), 3),
        "beam_idx": np.array([1, 1], np.int32),
    }
    swapped = running.request.infer(inputs)["logits"]
    np.testing.assert_allclose(swapped[0], swapped[1], atol=1e-5)
    running.request.reset_state()
    alone = running.text(np.array([9, 8, 3, 1]))
    np.testing.assert_allclose(swapped[0, 0], alone[-1], atol=1e-4)


@pytest.mark.parametrize("name", [name for name, tiny in VARIANTS.items() if tiny.format != "chatglm"])
def test_frequencies_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    checkpoint, theirs = load(VARIANTS[name], tmp_path)
    rotary = theirs.model.rotary_emb
    ours = inverse_frequencies(checkpoint.architecture)
    np.testing.assert_allclose(ours, rotary.inv_freq.numpy(), rtol=3e-7)
    yarn = checkpoint.architecture.yarn
    assert (yarn.attention_factor if yarn else 1.0) == pytest.approx(rotary.attention_scaling)


def test_the_pipelines_own_transformation_takes_the_graph(tmp_path: Path) -> None:
    from openvino._offline_transformations import paged_attention_transformation

    for number, tiny in enumerate((VARIANTS["glm4"], VARIANTS["glm-edge"], VARIANTS["glm4 all heads"])):
        checkpoint = CheckpointTensors.open(tiny.write(tmp_path / str(number)))
        model = build_decoder(checkpoint.architecture, uncompressed_weights(checkpoint))
        paged_attention_transformation(model)
        types = [node.get_type_name() for node in model.get_ops()]
        assert types.count("PagedAttentionExtension") == tiny.layers


def test_the_cpu_fuses_cache_attention_and_rope(tmp_path: Path) -> None:
    running = Running(CheckpointTensors.open(Tiny().write(tmp_path)))
    compiled = running.request.get_compiled_model().get_runtime_model()
    kinds = [node.get_rt_info()["layerType"].astype(str) for node in compiled.get_ops()]
    assert kinds.count("ScaledDotProductAttention") == 2
    assert kinds.count("RoPE") == 4
    assert "Softmax" not in kinds


def test_the_graph_says_how_to_scale_activations(tmp_path: Path) -> None:
    checkpoint = CheckpointTensors.open(Tiny().write(tmp_path))
    model = build_decoder(checkpoint.architecture, uncompressed_weights(checkpoint))
    assert model.get_rt_info(["runtime_options", "ACTIVATIONS_SCALE_FACTOR"]).value == "8.0"
