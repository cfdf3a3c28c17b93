"""Positions near one million, which only glm-4-9b-chat-1m has, against numpy in float64."""

from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino._offline_transformations import paged_attention_transformation

from convert.graph import build_decoder, decoder_inputs, inverse_frequencies, uncompressed_weights
from runtime.backends.openvino.paged.prefix_cache import BLOCK
from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.device.memory import estimate_from_sizes
from runtime.folder.manifest import ModelSizes

from .checkpoints import Tiny

Array = np.ndarray[Any, Any]
TINY = Tiny(
    format="chatglm", layers=1, heads=2, kv_heads=1, qkv_bias=True, theta=1e8, context=2**20, config={"rope_ratio": 1e4}
)
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
MILLION = 1_000_000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    with CheckpointTensors.open(TINY.write(tmp_path_factory.mktemp("million"))) as opened:
        assert (opened.architecture.rope_theta, opened.architecture.context) == (1e8, 2**20)
        yield opened


def exact_logits(a: Architecture, ids: Array, angles: Array, past: tuple[Array, Array] | None = None) -> Array:
    """The logits in float64, [T, vocab], of a text whose tokens have these angles, [T, rotary_dim / 2], after a past of
    keys and values, [tokens, head_dim]."""
    weights = {name.removeprefix("model.layers.0."): w.astype(np.float64) for name, w in TINY.weights().items()}

    def norm(x: Array, name: str) -> Array:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + a.norm_eps) * weights[name]

    def project(x: Array, name: str) -> Array:
        name = f"self_attn.{name}_proj."
        return (x @ weights[name + "weight"].T + weights[name + "bias"]).reshape(len(x), -1, a.head_dim)

    def rotate(x: Array) -> Array:
        even, odd = x[..., : a.rotary_dim : 2], x[..., 1 : a.rotary_dim : 2]
        sin, cos = np.sin(angles)[:, None], np.cos(angles)[:, None]
        turned = np.stack([even * cos - odd * sin, odd * cos + even * sin], -1).reshape(*x.shape[:-1], -1)
        return np.concatenate([turned, x[..., a.rotary_dim :]], -1)

    x = weights["model.embed_tokens.weight"][ids]
    normed = norm(x, "input_layernorm.weight")
    query, keys, values = rotate(project(normed, "q")), rotate(project(normed, "k"))[:, 0], project(normed, "v")[:, 0]
    before = 0 if past is None else len(past[0])
    if past is not None:
        keys, values = (np.concatenate([old, new]) for old, new in zip(past, (keys, values), strict=True))
    scores = np.einsum("thd,sd->hts", query, keys) / np.sqrt(a.head_dim)
    scores[:, np.arange(len(keys)) > before + np.arange(len(ids))[:, None]] = -np.inf
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.einsum("hts,sd->thd", scores / scores.sum(-1, keepdims=True), values).reshape(len(ids), -1)
    x = x + mixed @ weights["self_attn.o_proj.weight"].T
    gate, up = np.split(norm(x, "post_attention_layernorm.weight") @ weights["mlp.gate_up_proj.weight"].T, 2, -1)
    x = x + (gate / (1 + np.exp(-gate)) * up) @ weights["mlp.down_proj.weight"].T
    return norm(x, "model.norm.weight") @ weights["lm_head.weight"].T


def compiled(checkpoint: CheckpointTensors, *, paged: bool, **properties: str) -> ov.CompiledModel:
    model = build_decoder(checkpoint.architecture, uncompressed_weights(checkpoint))
    if paged:
        paged_attention_transformation(model, False, False, False)
    return ov.Core().compile_model(model, "CPU", EXACT | properties)


def stateful_logits(checkpoint: CheckpointTensors, ids: Array, position: int) -> Array:
    model = compiled(checkpoint, paged=False)
    positions = np.arange(position, position + len(ids))[np.newaxis]
    found = model.create_infer_request().infer({**decoder_inputs(model, ids), "position_ids": positions})
    return np.array(found["logits"][0], dtype=np.float64)


def paged_logits(
    checkpoint: CheckpointTensors, ids: Array, position: int, past: tuple[Array, Array] | None = None
) -> Array:
    """The logits after a past that is in the blocks of the cache, from the last block to the first."""
    model = compiled(checkpoint, paged=True)
    before = 0 if past is None else len(past[0])
    count = -(-(before + len(ids)) // BLOCK)
    blocks = np.arange(count, dtype=np.int32)[::-1].copy()
    size = checkpoint.architecture.head_dim
    caches = {}
    for number, name in enumerate(("key_cache.0", "value_cache.0")):
        rows = np.zeros((count * BLOCK, size), np.float32)
        if past is not None:
            rows[:before] = past[number]
        caches[name] = ov.Tensor(rows.reshape(count, 1, BLOCK, size)[::-1].copy())
    request = model.create_infer_request()
    found = request.infer(
        caches
        | {
            "input_ids": ids.astype(np.int64),
            "position_ids": np.arange(position, position + len(ids), dtype=np.int64),
            "past_lens": np.array([before], np.int32),
            "subsequence_begins": np.array([0, len(ids)], np.int32),
            "block_indices": blocks,
            "block_indices_begins": np.array([0, count], np.int32),
            "max_context_len": np.array(before + len(ids), np.int32),
        },
        share_inputs=True,
    )
    return np.array(found["logits"], dtype=np.float64).reshape(len(ids), -1)


def rounded_angles(a: Architecture, position: int, count: int) -> Array:
    """The angles as the checkpoint's published code has them: a product in f32."""
    return np.outer(np.arange(position, position + count, dtype=np.float32), inverse_frequencies(a)).astype(np.float64)


@pytest.mark.parametrize("run", [stateful_logits, paged_logits])
@pytest.mark.parametrize("position", [0, MILLION, 2**20 - 100])
def test_rope(checkpoint: CheckpointTensors, run: Any, position: int) -> None:
    """Sines and cosines of angles near a million are exact. The angles themselves are f32, as in the published code:
    beside exact ones they are off by up to 0.03."""
    a = checkpoint.architecture
    ids = np.random.default_rng(3).integers(0, a.vocab, 100)
    found = run(checkpoint, ids, position)
    angles = rounded_angles(a, position, len(ids))
    assert np.abs(found - exact_logits(a, ids, angles)).max() <= 1e-3
    frequencies = a.rope_theta ** (-np.arange(0, a.rotary_dim, 2) / a.rotary_dim)
    exact = np.outer(np.arange(position, position + len(ids)), frequencies)
    assert np.abs(exact - angles).max() <= 0.04
    difference = np.abs(found - exact_logits(a, ids, exact)).max()
    print(f"{position:,}: {difference:.2g} from exact angles")
    assert difference <= (0.2 if position else 1e-3)


@pytest.mark.slow
def test_a_cache_of_a_million_tokens(checkpoint: CheckpointTensors) -> None:
    """Filled by hand, its blocks in any order; a key that fits is found at the beginning and at the end."""
    a = checkpoint.architecture
    random = np.random.default_rng(4)
    keys, values = (random.standard_normal((MILLION, a.head_dim), dtype=np.float32) for _ in range(2))
    ids = random.integers(0, a.vocab, 3)
    angles = rounded_angles(a, MILLION, len(ids))
    before = exact_logits(a, ids, angles, (keys, values))
    for place in (0, MILLION - 1):
        keys[place] *= 20
        wanted = exact_logits(a, ids, angles, (keys, values))
        assert np.abs(wanted - before).max() > 0.01
        assert np.abs(paged_logits(checkpoint, ids, MILLION, (keys, values)) - wanted).max() <= 1e-3
        before = wanted


@pytest.mark.parametrize("precision", ["f16", "u8", "u4"])
def test_the_memory_of_a_million_tokens(checkpoint: CheckpointTensors, precision: str) -> None:
    """What `edge doctor` says of glm-4-9b-chat-1m is what the CPU plugin asks for a head, times layers and heads."""
    model = compiled(checkpoint, paged=True, **{"KV_CACHE_PRECISION": precision})
    nbytes = 0.0
    for port in model.inputs:
        if "cache." in port.get_any_name():
            _, heads, rows, columns = port.get_partial_shape()
            count = heads.get_length() * rows.get_length() * columns.get_length()
            nbytes += count * port.get_element_type().bitwidth / 8 / BLOCK
    a = checkpoint.architecture
    sizes = ModelSizes(weights=0, layers=a.layers, kv_heads=a.kv_heads)
    assert estimate_from_sizes(sizes, "CPU", 2**20, a.kv_bytes_per_token, precision).kv_cache == nbytes * 2**20
