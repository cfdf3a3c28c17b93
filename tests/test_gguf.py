"""GGUF files as checkpoints: the same tensors, tokenizer and model as from the folder that they were made from."""

import struct
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("gguf")

from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from convert.check.divergence import kl_divergence, log_softmax
from convert.check.reference import logits
from convert.pipeline import convert
from edge.demo import CHECKPOINT
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import CheckpointError, ConversionError, Notice
from runtime.folder.model_folder import ModelFolder
from runtime.source import open_source

from .checkpoints import YARN, Tiny
from .ggufs import encode, write_gguf

TEXTS = ("The ferry", " 研究 研究首先", "don't IT'S 1234567\r\n\n  \t x", "<|user|>\nWhat?", "👩\u200d🚀 e\u0301")


@pytest.mark.parametrize(
    ("tiny", "kind"),
    [
        (Tiny(), "F32"),
        (Tiny(config={"rope_scaling": YARN}), "F32"),
        (Tiny(config={"rope_scaling": {"type": "linear", "factor": 4.0}}), "F32"),
        (Tiny(format="glm", tied=True, qkv_bias=True, theta=5e6, dtype="f16"), "F16"),
        (Tiny(format="chatglm", qkv_bias=True, dtype="bf16"), "BF16"),
    ],
)
def test_unquantised_weights_are_those_of_the_checkpoint(tiny: Tiny, kind: str, tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "source")
    with (
        CheckpointTensors.open(source) as wanted,
        CheckpointTensors.open(write_gguf(source, tmp_path / "x.gguf", kind)) as found,
    ):
        name = found.architecture.name
        assert name == {"glm4": "Glm4ForCausalLM"}.get(tiny.format, "GlmForCausalLM")
        assert found.architecture == replace(wanted.architecture, name=name)
        assert (found.names, found.quantized_types) == (wanted.names, ())
        for name in found.names:
            tensor = found.tensor(name)
            np.testing.assert_array_equal(tensor.f32(), wanted.tensor(name).f32())
            assert not tensor.data.flags.owndata
            assert tensor.dtype == (kind.lower() if tensor.data.ndim == 2 else "f32")


@pytest.mark.parametrize(
    "kind", ["Q8_0", "Q4_0", "Q4_1", "Q5_1", "Q4_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ2_XXS", "MXFP4"]
)
def test_quantised_weights_are_decoded_by_rows(kind: str, tmp_path: Path) -> None:
    tiny = Tiny(format="chatglm", hidden=256, head_dim=64, ffn=256, layers=1)
    source = tiny.write(tmp_path / "source")
    with (
        CheckpointTensors.open(source) as plain,
        CheckpointTensors.open(write_gguf(source, tmp_path / "x.gguf", kind)) as found,
    ):
        assert found.quantized_types == (kind,)
        for name in ("model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight", "lm_head.weight"):
            tensor = found.tensor(name)
            wanted = dequantize(encode(plain.tensor(name).f32(), kind), GGMLQuantizationType[kind])
            assert (tensor.dtype, tensor.shape, tensor.data.dtype) == ("f32", wanted.shape, np.float32)
            np.testing.assert_array_equal(tensor.data, wanted)
            np.testing.assert_array_equal(tensor.rows(3, 7).data, wanted[3:7])
            np.testing.assert_array_equal(tensor.gather(np.array([5, 0, 5])).f32(), wanted[[5, 0, 5]])
            assert tensor.rows(3, 7).shape == (4, wanted.shape[1])
        value = found.tensor("model.layers.0.self_attn.v_proj.weight")  # the last rows of a fused matrix
        assert value.shape == value.data.shape == (128, 256)
        if kind == "Q8_0":
            np.testing.assert_allclose(
                value.data, plain.tensor("model.layers.0.self_attn.v_proj.weight").f32(), atol=0.01
            )


@pytest.mark.slow
def test_the_embedded_checkpoint_comes_through_a_gguf_unchanged(demo_folder: ModelFolder, tmp_path: Path) -> None:
    """To the last bit of its compressed weights and of its tokenizer."""
    source = write_gguf(CHECKPOINT, tmp_path / "demo-BF16.gguf", "BF16")
    *_, last = convert(source, tmp_path / "model", "int4")
    assert last.result is not None
    found, wanted = last.result.manifest, demo_folder.manifest
    for name in ("openvino_model.bin", "openvino_tokenizer.bin", "openvino_detokenizer.bin", "chat_template.jinja"):
        assert found.files[name] == wanted.files[name]
    assert (found.family, found.special_tokens, found.notes) == (wanted.family, wanted.special_tokens, wanted.notes)
    assert (found.source.name, found.source.architecture, found.licence) == ("demo-BF16", "Glm4ForCausalLM", "mit")


@pytest.mark.slow
def test_quantised_weights_are_compressed_again_and_it_is_said(tmp_path: Path) -> None:
    source = write_gguf(CHECKPOINT, tmp_path / "demo.gguf", lambda name: "Q4_0" if "ffn" in name else "Q8_0")
    *_, last = convert(source, tmp_path / "model", "int8")
    assert last.result is not None
    assert "made from weights in Q4_0, Q8_0" in last.result.manifest.notes[0]


@pytest.mark.parametrize(("kind", "strays"), [("Q8_0", 0), ("Q4_0", 0), ("Q4_1", 2**-9), ("Q4_K", 2**-9)])
def test_blocks_are_taken_over_as_they_are(kind: str, strays: float, tmp_path: Path) -> None:
    """`strays` is the largest difference, as a share of the largest weight of the row's group."""
    import openvino as ov
    from openvino import opset13 as ops

    from convert.output.ir_writer import IrWriter
    from convert.weights.stored import stored_form, stored_size, write_stored

    tiny = Tiny(format="chatglm", hidden=256, head_dim=64, ffn=256, layers=1)
    path = write_gguf(tiny.write(tmp_path / "source"), tmp_path / "x.gguf", kind)
    with CheckpointTensors.open(path) as found, IrWriter(tmp_path / "x.xml", 2**20) as ir:
        for name in ("model.layers.0.self_attn.v_proj.weight", "model.embed_tokens.weight"):
            tensor = found.tensor(name)
            before, form = ir.size, stored_form(tensor)
            assert form is not None
            model = ov.Model([ops.result(write_stored(tensor, form, ir))], [], "weight")
            assert 0 <= ir.size - before - stored_size(tensor, form) < 3 * 64
            values = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])[0]
            groups = np.abs(tensor.data).reshape(len(values), -1, 32).max(-1, keepdims=True)
            difference = np.abs(values - tensor.data).reshape(len(values), -1, 32)
            assert (difference <= strays * groups).all()


@pytest.mark.slow
def test_the_recipe_stored_wants_a_quantised_gguf(tmp_path: Path) -> None:
    *_, last = convert(write_gguf(CHECKPOINT, tmp_path / "x.gguf", "Q8_0"), tmp_path / "model", "stored")
    assert last.result is not None
    assert last.result.manifest.sizes is not None
    assert last.result.manifest.sizes.weights <= (tmp_path / "model" / "openvino_model.bin").stat().st_size
    with pytest.raises(ConversionError, match="keeps weights that are quantised already"):
        list(convert(CHECKPOINT, tmp_path / "other", "stored"))


@pytest.mark.slow
def test_quantised_logits_stay_close(tmp_path: Path) -> None:
    ids = [np.array(Checkpoint.open(CHECKPOINT).tokenizer.encode("How many ferries leave from the harbour?"))]
    with CheckpointTensors.open(CHECKPOINT) as plain:
        wanted = logits(plain, ids)[0]
    strayed = []
    for kind in ("Q8_0", "Q4_0"):
        with CheckpointTensors.open(write_gguf(CHECKPOINT, tmp_path / f"{kind}.gguf", kind)) as found:
            strayed.append(kl_divergence(log_softmax(wanted), log_softmax(logits(found, ids)[0])).mean())
    assert 0 < strayed[0] < 0.05
    assert strayed[0] < strayed[1] < 1


@pytest.mark.slow
def test_pytorch_runs_it_as_it_is(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from runtime.backends.torch.model import load_model

    path = write_gguf(CHECKPOINT, tmp_path / "demo.gguf", "Q8_0")
    ids = np.arange(100, 130)
    with CheckpointTensors.open(path) as found, torch.no_grad():
        model = load_model(Checkpoint.open(path), torch.float32)
        answer = model(torch.from_numpy(ids)[None]).logits[0].numpy()
        np.testing.assert_allclose(answer, logits(found, [ids])[0], atol=2e-3)


def test_the_tokenizer_is_the_checkpoint_s(tmp_path: Path) -> None:
    wanted = Checkpoint.open(CHECKPOINT)
    found = open_source(write_gguf(CHECKPOINT, tmp_path / "demo.gguf", "F16", general__sampling__temp=0.6))
    assert isinstance(found, Checkpoint)
    for text in (*TEXTS, wanted.template or ""):
        assert found.tokenizer.encode(text) == wanted.tokenizer.encode(text)
    assert found.tokenizer.special_tokens == wanted.tokenizer.special_tokens
    assert (found.tokenizer.eos_token, found.tokenizer.pad_token) == (
        wanted.tokenizer.eos_token,
        wanted.tokenizer.pad_token,
    )
    assert (found.template, found.family) == (wanted.template, wanted.family)
    assert found.generation["eos_token_id"] == wanted.generation["eos_token_id"]
    assert found.sampling().temperature == pytest.approx(0.6)


def test_a_model_in_several_files_is_opened_by_any_of_them(tmp_path: Path) -> None:
    source = Tiny().write(tmp_path / "source")
    write_gguf(source, tmp_path / "x.gguf", "Q8_0", parts=7)
    parts = sorted(tmp_path.glob("x-*-of-*.gguf"))
    assert len(parts) > 2
    whole = CheckpointTensors.open(write_gguf(source, tmp_path / "x.gguf", "Q8_0"))
    for part in (parts[0], parts[-1]):
        with CheckpointTensors.open(part) as found:
            assert set(found.names) == set(whole.names)
            assert found.nbytes == sum(path.stat().st_size for path in parts)
    parts[0].rename(tmp_path / "renamed.gguf")
    with pytest.raises(CheckpointError, match=rf"renamed.gguf is one of {len(parts)} parts"):
        CheckpointTensors.open(tmp_path / "renamed.gguf")
    (tmp_path / "renamed.gguf").rename(parts[0])
    parts[1].unlink()
    with pytest.raises(CheckpointError, match=rf"{parts[1].name} is missing \(1 of {len(parts)} parts\)"):
        CheckpointTensors.open(parts[0])


Harm = Callable[[bytes], bytes]


def renamed(old: bytes, new: bytes) -> Harm:
    assert len(old) == len(new)
    return lambda raw: raw.replace(old, new, 1)


REFUSED: dict[str, tuple[Harm, str]] = {
    "another file": (lambda raw: b"PK\x03\x04" + raw[4:], "is not a GGUF file"),
    "an empty file": (lambda raw: b"", "has only 0 bytes"),
    "big-endian": (lambda raw: raw[:4] + struct.pack(">I", 3) + raw[8:], "of version 50331648, or big-endian"),
    "cut in the header": (lambda raw: raw[:300], "damaged: it"),
    "cut in the data": (lambda raw: raw[:-100], "is truncated"),
    "too many tensors": (lambda raw: raw[:8] + struct.pack("<Q", 1 << 60) + raw[16:], "more than the file can contain"),
    "a key twice": (renamed(b"glm4.block_count", b"glm4.no_such_key"), "block_count is missing"),
    "another architecture": (renamed(b"\x04\0\0\0\0\0\0\0glm4", b"\x04\0\0\0\0\0\0\0qwen"), "'qwen', which is not"),
    "a missing tensor": (renamed(b"blk.1.attn_q.weight", b"blk.1.attn_x.weight"), "'blk.1.attn_q.weight' is missing"),
    "an unknown type": (
        lambda raw: raw.replace(*(b"output_norm.weight" + struct.pack("<IQI", 1, 64, n) for n in (0, 999))),
        "the type 999, which gguf does not support",
    ),
    "a type that ggml has removed": (
        lambda raw: raw.replace(*(b"output_norm.weight" + struct.pack("<IQI", 1, 64, n) for n in (0, 31))),
        "the type Q4_0_4_4, which gguf does not support",
    ),
    "another shape": (
        lambda raw: raw.replace(*(b"output_norm.weight" + struct.pack("<IQ", 1, n) for n in (64, 32))),
        r"the shape \[32\]",
    ),
}


@pytest.mark.parametrize("harm", REFUSED)
def test_a_damaged_file_is_refused_in_one_line(harm: str, tmp_path: Path) -> None:
    path = write_gguf(Tiny().write(tmp_path / "source"), tmp_path / "x.gguf", "Q8_0")
    change, message = REFUSED[harm]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CheckpointError, match=message) as caught:
        CheckpointTensors.open(path)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"glm4__rope__dimension_sections": [8, 12, 12, 0]}, "vision model"),
        ({"glm4__nextn_predict_layers": 1}, "multi-token prediction"),
        ({"glm4__rope__scaling__type": "yarn", "glm4__rope__scaling__factor": 2.0}, "original_context_length"),
        ({"glm4__rope__scaling__type": "linear"}, "scaling.factor is missing"),
        ({"glm4__rope__scaling__type": "longrope"}, "rope type 'longrope' is not supported"),
        ({"glm4__attention__head_count": 3}, "cannot be split into"),
        ({"tokenizer__ggml__pre": "llama-bpe"}, "'llama-bpe', not GLM-4's"),
        ({"tokenizer__ggml__merges": None}, "tokenizer.ggml.merges is missing"),
        ({"tokenizer__ggml__eos_token_id": None}, "no end token"),
    ],
)
def test_what_is_not_supported_is_said(metadata: dict[str, object], message: str, tmp_path: Path) -> None:
    path = write_gguf(CHECKPOINT, tmp_path / "x.gguf", "Q8_0", **metadata)
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.open(path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("tiny", "stated", "rotated"),
    [
        (Tiny(layers=1), None, 16),
        (Tiny(layers=1), 32, 16),
        (Tiny(layers=1), 8, 16),
        (Tiny(layers=1, format="chatglm", qkv_bias=True), 32, 16),
        (Tiny(layers=1, format="glm", tied=True, qkv_bias=True), None, 16),
        (Tiny(layers=1), 16, None),
        (Tiny(layers=1, format="glm", tied=True, rotary=1.0), 32, None),  # GLM-Edge rotates the whole head
        (Tiny(layers=1, format="glm", tied=True, rotary=1.0), None, None),
    ],
)
def test_half_of_a_head_is_rotated_whatever_an_early_file_says(
    tiny: Tiny, stated: int | None, rotated: int | None, tmp_path: Path
) -> None:
    source = tiny.write(tmp_path / "source")
    name = "glm4" if tiny.format == "glm4" else "chatglm"
    path = write_gguf(source, tmp_path / "x.gguf", "F32", **{f"{name}__rope__dimension_count": stated})
    with pytest.warns(Notice, match="RoPE rotates.*16 are rotated") if rotated else nullcontext():
        checkpoint = CheckpointTensors.open(path)
    with checkpoint, CheckpointTensors.open(source) as wanted:
        assert checkpoint.architecture.rotary_dim == (rotated or wanted.architecture.rotary_dim)


def test_without_the_package_the_cure_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.checkpoint.gguf.header.find_spec", lambda name: None)
    (tmp_path / "x.gguf").touch()
    with pytest.raises(CheckpointError, match="needs gguf") as caught:
        CheckpointTensors.open(tmp_path / "x.gguf")
    assert "[gguf]" in caught.value.hint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("gguf")
    path = write_gguf(Tiny(layers=1).write(folder / "source"), folder / "x.gguf", "Q8_0")
    return path, path.read_bytes()


@pytest.mark.filterwarnings("ignore::runtime.errors.Notice")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_flipped_or_missing_byte_raises_anything_else(data: st.DataObject, whole: tuple[Path, bytes]) -> None:
    path, raw = whole
    at = data.draw(st.integers(0, 1400))  # within the header
    changed = bytearray(raw)
    changed[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed[: data.draw(st.sampled_from([len(raw), at, len(raw) - 40]))])
    said = ""
    try:
        CheckpointTensors.open(path).close()
    except CheckpointError as error:
        said = str(error) + error.hint
    assert "\n" not in said
