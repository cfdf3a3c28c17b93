"""What is damaged is refused by the name of its tensor and file; zeros that a sound checkpoint has are not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from convert.pipeline import convert
from convert.source.damage import DamageCheck, all_finite, zero_run
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.gguf.checkpoint import GgufCheckpoint
from runtime.errors import CheckpointError, EdgeError, VerificationError

from .ggufs import write_gguf
from .test_pipeline import write_checkpoint

PAGE = 4096
DOWN = "model.layers.1.mlp.down_proj.weight"
EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.input_layernorm.weight"
BIAS = "model.layers.0.self_attn.q_proj.bias"


@pytest.fixture(scope="module", params=["bf16", "f16", "f32"])
def source(request, tmp_path_factory):
    tiny = {"layers": 2, "hidden": 256, "ffn": 512, "vocab": 640, "qkv_bias": True, "dtype": request.param}
    return write_checkpoint(tmp_path_factory.mktemp(request.param) / "source", **tiny)


class Harm:
    """The weights' file, to be changed."""

    def __init__(self, file: Path) -> None:
        self.file, self.raw = file, bytearray(file.read_bytes())
        length = int.from_bytes(self.raw[:8], "little")
        self.header, self.start = json.loads(self.raw[8 : 8 + length]), 8 + length

    def view(self, name):
        """The tensor, to be written to; bf16 as its bits."""
        entry = self.header[name]
        kind = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}[entry["dtype"]]
        count = int(np.prod(entry["shape"]))
        found = np.frombuffer(self.raw, kind, count, self.start + entry["data_offsets"][0])
        return found.reshape(entry["shape"])

    def set(self, name, at, value=0):
        view = self.view(name)
        bits = np.array([value], np.float32).view(np.uint32)[0] >> 16
        view[at] = bits if view.dtype == np.uint16 else value

    def page(self):
        """A page of the file, in the middle of a matrix, never came."""
        begin = self.start + self.header[DOWN]["data_offsets"][0] + PAGE
        begin += -begin % PAGE
        self.raw[begin : begin + PAGE] = bytes(PAGE)

    def half(self):
        middle = len(self.raw) // 2
        self.raw[middle:] = bytes(len(self.raw) - middle)

    def prune(self):
        """Half of a matrix's weights, here and there."""
        view = self.view(DOWN)
        view[np.random.default_rng(0).random(view.shape) < 0.5] = 0


def tokens(folder):
    """Ids in use, added ones, and those that only pad the vocabulary."""
    tokenizer = Checkpoint.open(folder).tokenizer
    added = set(tokenizer.special_tokens.values())
    used = set(tokenizer.tokenizer.get_vocab(with_added_tokens=False).values()) - added
    return sorted(used), sorted(added), sorted(set(range(640)) - used - added)


def searched(path):
    folder = Checkpoint.open(path)
    with folder.weights() as checkpoint:
        damage = DamageCheck(checkpoint, folder.tokenizer)
        for name in checkpoint.names:
            damage.check(checkpoint.tensor(name))


DAMAGED = {
    "the second half of the file": (lambda harm, _: harm.half(), CheckpointError, "zeros in a row|are zero"),
    "a page of a matrix": (lambda harm, _: harm.page(), CheckpointError, DOWN),
    "all of a matrix": (lambda harm, _: harm.set(DOWN, slice(None)), CheckpointError, DOWN),
    "some rows of a matrix": (lambda harm, _: harm.set(DOWN, slice(9, 17)), CheckpointError, DOWN),
    "a norm": (lambda harm, _: harm.set(NORM, slice(None)), CheckpointError, NORM),
    "the last norm": (lambda harm, _: harm.set("model.norm.weight", slice(None)), CheckpointError, "model.norm"),
    "a part of a norm": (lambda harm, _: harm.set(NORM, slice(100, 120)), CheckpointError, NORM),
    "every fourth weight of a norm": (lambda harm, _: harm.set(NORM, slice(0, None, 4)), CheckpointError, NORM),
    "a token's row": (lambda harm, used: harm.set(EMBEDDING, used[77]), CheckpointError, f"for 1 tokens.* {77}: "),
    "many tokens' rows": (lambda harm, used: harm.set(EMBEDDING, used[40:]), CheckpointError, EMBEDDING),
    "a token's row of the head": (lambda harm, used: harm.set(HEAD, used[-1]), CheckpointError, HEAD),
    "the head": (lambda harm, _: harm.set(HEAD, slice(None)), CheckpointError, HEAD),
    "NaN in a matrix": (lambda harm, _: harm.set(DOWN, (3, 5), np.nan), VerificationError, DOWN),
    "NaN for a token that nobody asks": (
        lambda harm, _: harm.set(EMBEDDING, (630, 1), np.nan),
        VerificationError,
        "NaN",
    ),
    "minus infinity": (lambda harm, _: harm.set(DOWN, (0, 0), -np.inf), VerificationError, DOWN),
    "NaN in a bias": (lambda harm, _: harm.set(BIAS, 3, np.nan), VerificationError, BIAS),
    "NaN in a norm": (lambda harm, _: harm.set(NORM, 3, np.nan), VerificationError, NORM),
}


@pytest.mark.parametrize(("change", "kind", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damage_is_refused_by_name(source, tmp_path, change, kind, message):
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    harm = Harm(folder / "model.safetensors")
    change(harm, tokens(folder)[0])
    harm.file.write_bytes(harm.raw)
    with pytest.raises(kind, match=message) as caught:
        searched(folder)
    assert "model.safetensors" in str(caught.value)
    assert "download" in caught.value.hint


SOUND = {
    "nothing": lambda *_: None,
    "padded tokens": lambda harm, ids: harm.set(EMBEDDING, ids[2]) or harm.set(HEAD, ids[2]),
    "added tokens": lambda harm, ids: harm.set(EMBEDDING, ids[1]) or harm.set(HEAD, ids[1]),
    "both": lambda harm, ids: harm.set(EMBEDDING, ids[1] + ids[2]) or harm.set(HEAD, ids[1] + ids[2]),
    "biases": lambda harm, _: harm.set(BIAS, slice(None)),
    "a weight of a norm": lambda harm, _: harm.set(NORM, slice(0, None, 50)),
    "weights here and there": lambda harm, _: harm.prune(),
    "a short run": lambda harm, _: harm.set(DOWN, (slice(0, 1), slice(0, 100))),
}


@pytest.mark.parametrize("change", SOUND.values(), ids=SOUND.keys())
def test_zeros_that_a_sound_checkpoint_has_are_taken(source, tmp_path, change):
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    harm = Harm(folder / "model.safetensors")
    change(harm, tokens(folder))
    harm.file.write_bytes(harm.raw)
    searched(folder)


@pytest.mark.parametrize("kind", ["BF16", "F16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"])
def test_damage_in_a_gguf_is_refused_by_its_own_names(tmp_path, kind):
    pytest.importorskip("gguf")
    source = write_checkpoint(tmp_path / "source", layers=2, hidden=256, head_dim=64, ffn=512)
    path = write_gguf(source, tmp_path / "x.gguf", kind)
    searched(path)
    raw = path.read_bytes()
    (file,) = GgufCheckpoint.open(path).weight_files({}, mapped=False)
    entries = dict(file.entries)
    for name, size in (("blk.1.ffn_down.weight", PAGE), ("blk.0.attn_norm.weight", 1024), ("token_embd.weight", PAGE)):
        begin = entries[name].begin
        path.write_bytes(raw[:begin] + bytes(size) + raw[begin + size :])
        with pytest.raises(CheckpointError, match=name) as caught:
            searched(path)
        assert "x.gguf" in str(caught.value)
    end = entries["blk.1.ffn_down.weight"].end
    path.write_bytes(raw[: end - 1000] + b"\xff" * 1000 + raw[end:])
    with pytest.raises(VerificationError, match=r"'blk.1.ffn_down.weight' in x.gguf has NaN or infinity"):
        searched(path)


@pytest.mark.parametrize("recipe", ["int4", "int4-gptq", "int4-mixed"])
def test_a_damaged_checkpoint_converts_to_nothing(source, tmp_path, recipe):
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    harm = Harm(folder / "model.safetensors")
    harm.half()
    harm.file.write_bytes(harm.raw)
    with pytest.raises(EdgeError, match=r"zeros in a row|are zero"):
        list(convert(folder, tmp_path / "model", recipe))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize("begin", [0, 1, 500, 513, 4096, 60_000])
@pytest.mark.parametrize("length", [2047, 2048, 5_000, 39_000])
def test_a_run_is_found_wherever_it_begins(begin, length):
    stored = np.full(100_000, 7, np.uint8)
    stored[begin : begin + length] = 0
    assert zero_run(stored) == (length if length >= 2048 else 0)
    stored[begin + length // 2] = 1
    assert zero_run(stored) == (length // 2 if length // 2 >= 2048 else 0)


def test_the_largest_finite_values_are_finite():
    for dtype, kind in (("f16", np.float16), ("f32", np.float32)):
        limits = np.finfo(kind)
        assert all_finite(np.array([limits.max, limits.min, limits.tiny, -0.0], kind), dtype)
        assert not all_finite(np.array([1, np.inf], kind), dtype)
    assert all_finite(np.array([0x7F7F, 0xFF7F], np.uint16), "bf16")
    assert not all_finite(np.array([0xFF80], np.uint16), "bf16")
