"""Checkpoints of every format under one set of names; damaged ones refused in one line that says what is wrong."""

import json
import math
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import CheckpointError

from .checkpoints import YARN, Tiny, write_safetensors
from .references import REFERENCE

SHARDS = "model-{:05}-of-00003.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize("format", ["glm4", "glm", "chatglm"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(("bias", "tied"), [(False, False), (True, True)])
def test_tensors_have_their_canonical_names_and_values(
    format: str, shards: int, bias: bool, tied: bool, tmp_path: Path
) -> None:
    tiny = Tiny(format=format, shards=shards, qkv_bias=bias, tied=tied)
    with CheckpointTensors.open(tiny.write(tmp_path)) as checkpoint:
        wanted = tiny.weights()
        assert set(checkpoint.names) == set(wanted)
        for name, shape in checkpoint.architecture.shapes():
            tensor = checkpoint.tensor(name)
            assert (tensor.name, tensor.dtype, tensor.shape) == (name, "f32", shape)
            np.testing.assert_array_equal(tensor.data, wanted[name])
            assert not tensor.data.flags.owndata


@pytest.mark.parametrize(("dtype", "bits"), [("bf16", 8), ("f16", 11), ("f32", 24)])
def test_every_dtype_becomes_f32(dtype: str, bits: int, tmp_path: Path) -> None:
    tiny = Tiny(dtype=dtype)
    checkpoint = CheckpointTensors.open(tiny.write(tmp_path))
    for name, wanted in tiny.weights().items():
        tensor = checkpoint.tensor(name)
        assert tensor.dtype == dtype
        np.testing.assert_allclose(tensor.f32(), wanted, rtol=2.0 ** (1 - bits), atol=1e-6)


def _own_glm_4_9b_chat() -> tuple[dict[str, Any], dict[str, str]]:
    """The config and the shard of each tensor of a checkpoint with glm-4-9b-chat's shapes."""
    sizes = {"hidden": 4096, "heads": 32, "kv_heads": 2, "head_dim": 128, "ffn": 13696, "vocab": 151552}
    chat = Tiny(format="chatglm", layers=40, qkv_bias=True, theta=5e6, context=131072, **sizes)  # type: ignore[arg-type]
    names = [
        name.replace("layers.0.", f"layers.{layer}.")
        for name in Tiny(format="chatglm", layers=1, qkv_bias=True).stored()
        for layer in (range(40) if "layers.0." in name else [0])
    ]
    return chat.config_json(), {name: SHARDS.format(i % 3 + 1) for i, name in enumerate(names)}


def _published_glm_4_9b_chat() -> tuple[dict[str, Any], dict[str, str]]:
    folder = REFERENCE / "glm-4-9b-chat"
    return json.loads((folder / "config.json").read_text()), json.loads((folder / INDEX).read_text())["weight_map"]


@pytest.mark.parametrize("origin", [_own_glm_4_9b_chat, *([_published_glm_4_9b_chat] if REFERENCE.is_dir() else [])])
def test_the_architecture_of_glm_4_9b_chat(
    origin: Callable[[], tuple[dict[str, Any], dict[str, str]]], tmp_path: Path
) -> None:
    """A config, and a sparse file a shard: all names and shapes of the original format, and no data."""
    config, weight_map = origin()
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    shards: dict[str, dict[str, list[int]]] = {}
    for name, file in weight_map.items():
        shards.setdefault(file, {})[name] = _shape_in_glm_4_9b_chat(name)
    for file, shapes in shards.items():
        _write_sparse(tmp_path / file, shapes)
    with CheckpointTensors.open(tmp_path) as checkpoint:
        a = checkpoint.architecture
        assert (a.layers, a.hidden, a.heads, a.kv_heads, a.head_dim, a.ffn) == (40, 4096, 32, 2, 128, 13696)
        assert (a.vocab, a.norm_eps, a.rope_theta, a.rotary_dim, a.context) == (151552, 1.5625e-07, 5e6, 64, 131072)
        assert (a.qkv_bias, a.sandwich_norms, a.tied_embeddings, a.yarn) == (True, False, False, None)
        assert a.kv_bytes_per_token == 40960
        assert len(checkpoint.names) == 40 * 11 + 3
        assert checkpoint.tensor("model.layers.39.self_attn.v_proj.weight").shape == (256, 4096)
        total = sum(math.prod(shape) for _, shape in a.shapes())
        assert total == 9_399_951_360


def _shape_in_glm_4_9b_chat(name: str) -> list[int]:
    for end, shape in {
        "inv_freq": [32],
        "word_embeddings.weight": [151552, 4096],
        "output_layer.weight": [151552, 4096],
        "query_key_value.weight": [4608, 4096],
        "query_key_value.bias": [4608],
        "dense.weight": [4096, 4096],
        "dense_h_to_4h.weight": [27392, 4096],
        "dense_4h_to_h.weight": [4096, 13696],
    }.items():
        if name.endswith(end):
            return shape
    return [4096]


def _write_sparse(path: Path, shapes: dict[str, list[int]]) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        file.truncate(8 + len(encoded) + end)


@pytest.mark.parametrize(
    ("config", "wanted"),  # rope_theta, rotary_dim, context, YaRN's factor
    [
        ({}, (1e4, 16, 4096, None)),
        ({"rope_scaling": None}, (1e4, 16, 4096, None)),
        ({"rope_scaling": {"rope_type": "default"}}, (1e4, 16, 4096, None)),
        ({"rope_scaling": YARN}, (1e4, 16, 4096, 4.0)),
        ({"rope_scaling": {**YARN, "original_max_position_embeddings": 4096}}, (1e4, 16, 16384, 4.0)),
        ({"rope_scaling": {"type": "yarn", "original_max_position_embeddings": 2048}}, (1e4, 16, 4096, 2.0)),
        ({"rope_parameters": {"rope_theta": 5e6, "partial_rotary_factor": 1.0}}, (5e6, 32, 4096, None)),
        ({"rope_parameters": {"rope_theta": 5e6, **YARN}}, (5e6, 16, 4096, 4.0)),
    ],
)
def test_both_spellings_of_rope(config: dict[str, Any], wanted: tuple[Any, ...], tmp_path: Path) -> None:
    a = CheckpointTensors.open(Tiny(config=config).write(tmp_path)).architecture
    assert (a.rope_theta, a.rotary_dim, a.context, a.yarn and a.yarn.factor) == wanted


# --- damage -----------------------------------------------------------------------------------------------------------

Damage = Callable[[Path], object]


def config(**changes: Any) -> Damage:
    def apply(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v != "REMOVED"}))

    return apply


def write(file: str, text: str | bytes) -> Damage:
    return lambda folder: (folder / file).write_bytes(text.encode() if isinstance(text, str) else text)


def remove(*files: str) -> Damage:
    return lambda folder: [(folder / file).unlink() for file in files]


def rename(old: str, new: str) -> Damage:
    return lambda folder: (folder / old).rename(folder / new)


def cut(file: str, size: int) -> Damage:
    return lambda folder: os.truncate(folder / file, (folder / file).stat().st_size + size if size < 0 else size)


def append(file: str, more: bytes) -> Damage:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes() + more)


def header(change: Callable[[dict[str, Any]], object], file: str = SHARDS.format(1)) -> Damage:
    """Changes the parsed header; the data stays as it is."""

    def apply(folder: Path) -> None:
        raw = (folder / file).read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        values = json.loads(raw[8 : 8 + length])
        encoded = json.dumps(change(values) or values).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(encoded)) + encoded + raw[8 + length :])

    return apply


def raw_header(encoded: bytes, length: int | None = None) -> Damage:
    return write(SHARDS.format(1), struct.pack("<Q", len(encoded) if length is None else length) + encoded)


def index(change: Callable[[dict[str, Any]], object]) -> Damage:
    def apply(folder: Path) -> None:
        values = json.loads((folder / INDEX).read_text())
        (folder / INDEX).write_text(json.dumps(change(values) or values))

    return apply


LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4665a5ea\nsize 4995443264\n"
EMBEDDING = "model.embed_tokens.weight"


def add_twin(folder: Path) -> None:
    write_safetensors(folder / SHARDS.format(3), [(EMBEDDING, "F32", (1,), b"1234")])


DAMAGED: dict[str, tuple[Damage, str]] = {
    "no folder": (lambda folder: folder.rename(folder.with_name("moved")), "no folder"),
    "no config": (remove("config.json"), "no config.json"),
    "adapter": (rename("config.json", "adapter_config.json"), "LoRA adapter"),
    "config cut": (write("config.json", '{"hidden_size": 64'), "config.json is not readable JSON"),
    "config binary": (write("config.json", b"\xff\xfe\x00"), "config.json is not readable JSON"),
    "config deep": (write("config.json", "[" * 100_000), "config.json is not readable JSON"),
    "config list": (write("config.json", "[]"), "config.json is not a JSON object"),
    "config number of 9,000 digits": (write("config.json", "9" * 9000), "config.json is not readable JSON"),
    "other architecture": (
        config(architectures=["Qwen3ForCausalLM"], model_type="qwen3"),
        "'Qwen3ForCausalLM' is not supported",
    ),
    "no architecture": (config(architectures="REMOVED", model_type="REMOVED"), "None is not supported"),
    "architecture of a wrong type": (config(architectures=[{"a": [[[]]]}], model_type=[]), "is not supported"),
    "a classifier": (config(architectures=["Glm4ForSequenceClassification"]), "labels texts"),
    "quantised": (config(quantization_config={"quant_method": "hqq"}), "is quantised by hqq"),
    "zero layers": (config(num_hidden_layers=0), "num_hidden_layers is 0; it must be a positive integer"),
    "negative width": (config(hidden_size=-64), "hidden_size is -64"),
    "width in words": (config(hidden_size="wide"), "hidden_size is 'wide'"),
    "width true": (config(hidden_size=True), "hidden_size is True"),
    "no width": (config(hidden_size="REMOVED"), "hidden_size is missing"),
    "a billion layers": (config(num_hidden_layers=10**9), "'model.layers.2.self_attn.q_proj.weight' is missing"),
    "heads": (config(num_key_value_heads=3), "4 attention heads cannot be split into 3"),
    "epsilon": (config(rms_norm_eps=float("nan")), "config.json is not readable JSON: NaN is not a JSON value"),
    "activation": (config(hidden_act="gelu"), "hidden_act is 'gelu'; it must be 'silu'"),
    "odd rotation": (config(partial_rotary_factor=0.1), "RoPE would rotate 3 of 32"),
    "no rotation": (config(partial_rotary_factor=0), "RoPE would rotate 0 of 32"),
    "rope theta": (config(rope_theta=0), "rope_theta is 0"),
    "rope type": (config(rope_scaling={"rope_type": "longrope"}), "rope type 'longrope' is not supported"),
    "rope list": (config(rope_scaling=[1]), "rope_scaling is [1]"),
    "yarn factor": (config(rope_scaling={**YARN, "factor": 0.5}), "factor is 0.5"),
    "bias in words": (config(attention_bias="no"), "attention_bias is 'no'; it must be true or false"),
    "bias without tensors": (config(attention_bias=True), "'model.layers.0.self_attn.q_proj.bias' is missing"),
    "other width": (config(intermediate_size=95), "gate_up_proj.weight' has the shape [192, 64], but"),
    "tensor missing": (header(lambda h: h.update({"renamed": h.pop(EMBEDDING)})), f"'{EMBEDDING}' is missing"),
    "tensor left over": (config(tie_word_embeddings=False, num_hidden_layers=1), "does not belong to this decoder"),
    "no weights": (remove(INDEX, *map(SHARDS.format, (1, 2, 3))), "no .safetensors file"),
    "pickle": (
        lambda folder: [remove(INDEX, *map(SHARDS.format, (1, 2, 3)))(folder), write("pytorch_model.bin", "x")(folder)],
        "pickle",
    ),
    "no index": (remove(INDEX), f"3 .safetensors files, but no {INDEX}"),
    "shard missing": (remove(SHARDS.format(2)), f"{SHARDS.format(2)} is missing"),
    "shard is a folder": (
        lambda folder: [remove(SHARDS.format(2))(folder), (folder / SHARDS.format(2)).mkdir()],
        f"{SHARDS.format(2)} is missing",
    ),
    "index cut": (cut(INDEX, -9), f"{INDEX} is not readable JSON"),
    "index without a map": (write(INDEX, "{}"), f"{INDEX} has no weight_map"),
    "index leads out": (
        index(lambda i: i["weight_map"].update({"a": "../model.safetensors"})),
        "'../model.safetensors'",
    ),
    "index to a pickle": (index(lambda i: i["weight_map"].update({"a": "model.bin"})), "points to 'model.bin'"),
    "index with NUL": (index(lambda i: i["weight_map"].update({"a": "a\0.safetensors"})), "points to 'a\\x00.safe"),
    "index to a number": (index(lambda i: i["weight_map"].update({"a": 1})), "points to 1"),
    "index to a surrogate": (
        index(lambda i: i["weight_map"].update({"a": "\ud800.safetensors"})),
        "\ufffd.safetensors is missing",
    ),
    "empty file": (cut(SHARDS.format(1), 0), "has only 0 bytes"),
    "cut header": (cut(SHARDS.format(1), 100), "claims a header of"),
    "cut data": (cut(SHARDS.format(1), -1), f"{SHARDS.format(1)} is truncated"),
    "extra data": (append(SHARDS.format(1), b"x"), "1 bytes that belong to no tensor"),
    "a git-lfs pointer": (write(SHARDS.format(1), LFS_POINTER), f"{SHARDS.format(1)} is a git-lfs pointer"),
    "a short git-lfs pointer": (write(SHARDS.format(1), LFS_POINTER[:42]), f"{SHARDS.format(1)} is a git-lfs pointer"),
    "rope factor": (config(rope_scaling={"type": "linear", "factor": 0}), "factor is 0"),
    "rope without a factor": (config(rope_scaling={"type": "linear"}), "factor is missing"),
    "absurd header": (raw_header(b"{}", length=2**64 - 1), "claims a header of 18,446,744,073,709,551,615 bytes"),
    "header not JSON": (raw_header(b"{]"), "is not readable JSON"),
    "header a list": (raw_header(b"[]"), "is not a JSON object"),
    "header deep": (raw_header(b'{"a":' * 50_000), "is not readable JSON"),
    "duplicate": (raw_header(b'{"a": 1, "a": 2}'), "is not readable JSON"),
    "in two shards": (add_twin, f"'{EMBEDDING}' is both in {SHARDS.format(1)} and in {SHARDS.format(3)}"),
    "entry a number": (header(lambda h: h.update({EMBEDDING: 7})), "has an invalid entry for"),
    "negative offset": (header(lambda h: h[EMBEDDING].update(data_offsets=[-4, 4])), "has an invalid entry for"),
    "fractional shape": (header(lambda h: h[EMBEDDING].update(shape=[160.0, 64])), "has an invalid entry for"),
    "offsets swapped": (header(lambda h: h[EMBEDDING]["data_offsets"].reverse()), "bytes, not those of the shape"),
    "shape and size": (header(lambda h: h[EMBEDDING].update(shape=[160, 65])), "not those of the shape [160, 65]"),
    "offsets out of the file": (
        header(lambda h: h[EMBEDDING].update(data_offsets=[2**62, 2**62 + 160 * 64 * 4])),
        "leaves a gap",
    ),
    "overlap": (
        header(lambda h: h["model.layers.0.mlp.down_proj.weight"].update(data_offsets=[0, 24576])),
        "overlaps",
    ),
    "int8": (header(lambda h: h[EMBEDDING].update(dtype="I8", shape=[640, 64])), "has the dtype 'I8'"),
    "float8": (header(lambda h: h[EMBEDDING].update(dtype="F8_E4M3", shape=[640, 64])), "has the dtype 'F8_E4M3'"),
    "float64": (header(lambda h: h[EMBEDDING].update(dtype="F64", shape=[80, 64])), "has the dtype 'F64'"),
}
CHATGLM_DAMAGED: dict[str, tuple[Damage, str]] = {
    "bias in linear layers": (config(add_bias_linear=True), "add_bias_linear is True; it must be False"),
    "images": (config(vision_config={"hidden_size": "wide"}), "num_hidden_layers"),
    "groups": (config(multi_query_group_num=3), "4 attention heads cannot be split into 3"),
    "layer norm": (config(rmsnorm=False), "rmsnorm is False"),
    "no vocabulary": (config(padded_vocab_size="REMOVED"), "padded_vocab_size is missing"),
    "fused rows": (config(multi_query_group_num=4), "query_key_value.weight' has the shape [256, 64], but"),
}


def refused(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        CheckpointTensors.open(folder)
    error = caught.value
    assert "\n" not in str(error) + error.hint
    assert len(str(error)) < 400
    assert error.hint
    return error


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_checkpoint_is_refused(damage: str, tmp_path: Path) -> None:
    apply, words = DAMAGED[damage]
    folder = Tiny(shards=3).write(tmp_path / "checkpoint")
    apply(folder)
    assert words in str(refused(folder))


@pytest.mark.parametrize("damage", CHATGLM_DAMAGED)
def test_a_damaged_checkpoint_of_the_original_format_is_refused(damage: str, tmp_path: Path) -> None:
    apply, words = CHATGLM_DAMAGED[damage]
    folder = Tiny(format="chatglm").write(tmp_path)
    apply(folder)
    assert words in str(refused(folder))


def test_the_supported_architectures_are_named(tmp_path: Path) -> None:
    error = refused(Tiny(config={"architectures": ["LlamaForCausalLM"], "model_type": "llama"}).write(tmp_path))
    assert all(name in error.hint for name in ("Glm4ForCausalLM", "GlmForCausalLM", "ChatGLMModel"))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser reads everything")
    folder = Tiny().write(tmp_path)
    (folder / "model.safetensors").chmod(0)
    assert "Permission denied" in str(refused(folder))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def opens_or_is_refused(folder: Path) -> None:
    said = ""
    try:
        CheckpointTensors.open(folder).close()
    except CheckpointError as error:
        said = str(error) + error.hint
    assert "\n" not in said


@pytest.mark.slow
@QUICK
@given(data=st.data(), format=st.sampled_from(["glm4", "chatglm"]))
def test_no_config_raises_anything_else(data: st.DataObject, format: str, tmp_path: Path) -> None:
    tiny = Tiny(format=format, layers=1, config={"rope_scaling": YARN})
    keys = st.sampled_from(sorted(tiny.config_json())) | st.text(max_size=5)
    changes = data.draw(st.dictionaries(keys, JSON, max_size=3))
    rope = {**YARN, **data.draw(st.dictionaries(st.sampled_from(["factor", "beta_fast", "mscale", "type"]), JSON))}
    replace(tiny, config={"rope_scaling": rope, **changes}).write(tmp_path)
    opens_or_is_refused(tmp_path)


@QUICK
@given(
    file=st.sampled_from(["config.json", INDEX, SHARDS.format(1)]),
    at=st.integers(0, 3000),
    new=st.binary(min_size=1, max_size=8),
    end=st.none() | st.integers(0, 4000),
)
def test_no_flipped_or_missing_byte_raises_anything_else(
    file: str, at: int, new: bytes, end: int | None, tmp_path: Path
) -> None:
    path = Tiny(layers=1, shards=3).write(tmp_path) / file
    raw = bytearray(path.read_bytes())
    at %= len(raw)
    raw[at : at + len(new)] = new
    path.write_bytes(raw[:end])
    opens_or_is_refused(tmp_path)


@pytest.mark.slow
@QUICK
@given(data=st.data())
def test_no_header_raises_anything_else(data: st.DataObject, tmp_path: Path) -> None:
    folder = Tiny(layers=1).write(tmp_path)
    names = st.sampled_from([EMBEDDING, "model.norm.weight", "__metadata__"]) | st.text(max_size=3)
    fields = st.sampled_from(["dtype", "shape", "data_offsets", "other"])
    entry = JSON | st.dictionaries(fields, JSON | st.lists(st.integers(), max_size=4))
    changes = data.draw(st.dictionaries(names, entry, max_size=3))
    header(lambda values: values.update(changes), "model.safetensors")(folder)
    opens_or_is_refused(folder)


# --- what a checkpoint offers -----------------------------------------------------------------------------------------


def test_the_original_format_has_two_names(tmp_path: Path) -> None:
    config = {"architectures": ["ChatGLMForConditionalGeneration"], "rope_ratio": None, "num_layers": None}
    tiny = Tiny(format="chatglm", config={**config, "num_hidden_layers": 2})
    a = CheckpointTensors.open(tiny.write(tmp_path)).architecture
    assert (a.name, a.layers, a.rope_theta) == ("ChatGLMModel", 2, 10000.0)


def test_one_file_may_have_any_name(tmp_path: Path) -> None:
    Tiny().write(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "weights.safetensors")
    assert CheckpointTensors.open(tmp_path).nbytes == (tmp_path / "weights.safetensors").stat().st_size


def test_links_are_followed(tmp_path: Path) -> None:
    """As in the hub's cache, where every file is a link to a blob."""
    blobs, snapshot = Tiny(shards=2).write(tmp_path / "blobs"), tmp_path / "snapshot"
    snapshot.mkdir()
    for number, file in enumerate(sorted(blobs.iterdir())):
        moved = file.rename(blobs / f"{number:064}")
        (snapshot / file.name).symlink_to(moved)
    assert CheckpointTensors.open(snapshot).architecture.layers == 2


def test_tied_embeddings_may_come_with_a_copy(tmp_path: Path) -> None:
    folder = Tiny(config={"tie_word_embeddings": True}).write(tmp_path)
    assert "lm_head.weight" not in CheckpointTensors.open(folder).names


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    first, same = (CheckpointTensors.open(Tiny(shards=2).write(tmp_path / name)).fingerprint() for name in "ab")
    assert first == same
    path = tmp_path / "b" / "model-00002-of-00002.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert CheckpointTensors.open(tmp_path / "b").fingerprint() != first
    other_config = Tiny(shards=2, config={"eos_token_id": [1]}).write(tmp_path / "c")
    assert CheckpointTensors.open(other_config).fingerprint() != first


def test_views_outlive_release_and_close(tmp_path: Path) -> None:
    tiny = Tiny()
    checkpoint = CheckpointTensors.open(tiny.write(tmp_path))
    view = checkpoint.tensor(EMBEDDING).data
    checkpoint.release()
    checkpoint.close()
    np.testing.assert_array_equal(view, tiny.weights()[EMBEDDING])


def test_a_header_of_odd_length_is_read(tmp_path: Path) -> None:
    from convert.check.reference import logits

    plain, odd = Tiny(layers=1).write(tmp_path / "plain"), Tiny(layers=1).write(tmp_path / "odd")
    raw = (odd / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    pad = b" " * (1 + (length + 1) % 2)
    encoded = raw[8 : 8 + length] + pad
    (odd / "model.safetensors").write_bytes(struct.pack("<Q", len(encoded)) + encoded + raw[8 + length :])
    checkpoint = CheckpointTensors.open(odd)
    assert not checkpoint.tensor(EMBEDDING).data.flags.aligned
    ids = [np.arange(5)]
    np.testing.assert_array_equal(logits(checkpoint, ids)[0], logits(CheckpointTensors.open(plain), ids)[0])
