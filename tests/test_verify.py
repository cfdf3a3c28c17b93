import json
import shutil

import numpy as np
import pytest

from convert import pipeline
from convert.check import layerwise as saved
from convert.check import verify
from convert.output.scratch import save_ir
from convert.pipeline import convert
from convert.recipe import RECIPES
from edge.demo import CHECKPOINT
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.checkpoint.tokenizer import read_tokenizer
from runtime.errors import VerificationError
from runtime.prompt.families import FAMILIES
from runtime.prompt.template import ChatTemplate

from .conftest import SPECIAL_TOKENS
from .references import write_tiktoken
from .test_pipeline import TEMPLATE, write_checkpoint
from .test_tokenizer import RANKS, VOCABULARY

INT4 = RECIPES["int4"]


def logits(seed=0, tokens=12, vocabulary=50, scale=4.0):
    return (np.random.default_rng(seed).standard_normal((tokens, vocabulary)) * scale).astype(np.float32)


def peaked(ids, vocabulary=50):
    """Logits of a model that knows its text by heart."""
    found = np.zeros((len(ids), vocabulary), np.float32)
    found[np.arange(len(ids) - 1), ids[1:]] = 8
    return found


IDS = np.arange(12)


def test_the_figures_are_those_of_the_formulas():
    a, b = logits(0), logits(0) + 0.1 * logits(1)
    p, q = (np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum(-1, keepdims=True) for x in (a, b))
    divergence = (p * np.log(p / q)).sum(-1)
    figures = verify.compare([IDS[:5], IDS[5:]], [a[:5], a[5:]], [b[:5], b[5:]], INT4)
    assert figures.tokens == 12
    assert figures.mean_kl == pytest.approx(divergence.mean(), rel=1e-4)
    assert figures.max_kl == pytest.approx(divergence.max(), rel=1e-4)
    assert figures.top1 == (a.argmax(-1) == b.argmax(-1)).mean()
    assert figures.max_logit_difference == np.abs(a - b).max()


def test_the_same_answers_do_not_differ():
    assert verify.compare([IDS], [logits()], [logits()], RECIPES["bf16"]) == verify.VerificationFigures(
        12, 0.0, 0.0, 1.0, 0.0
    )


def spoilt(value):
    found = logits()
    found[3, 4] = value
    return found


@pytest.mark.parametrize(
    ("reference", "converted", "message", "cure"),
    [
        (logits(), spoilt(np.nan), "int4, the model's logits are NaN", "recipe int8"),
        (logits(), spoilt(np.inf), "int4, the model's logits are NaN", "recipe int8"),
        (spoilt(np.nan), logits(), "the checkpoint's own logits are NaN", "download"),
        (logits() * 1e-5 + 3, logits(), "predicts all tokens with equal probability", "download"),
        (logits(), np.tile(logits()[:1], (12, 1)), "one token everywhere", "recipe int8"),
        (logits(), logits(5), "a KL divergence of [0-9.]+ nats a token, above the limit of 3", "recipe int8"),
        (peaked(IDS), peaked(IDS) + logits(1, scale=3.0), "above the limit of 0.5", "recipe int8"),
    ],
)
def test_what_is_not_fit_for_use_is_refused(reference, converted, message, cure):
    with pytest.raises(VerificationError, match=message) as caught:
        verify.compare([IDS], [reference], [converted], INT4)
    assert cure in caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_says_one_token_for_ever_may_go_on_so():
    same = np.tile(logits()[:1], (12, 1))
    assert verify.compare([IDS], [same], [same], INT4).top1 == 1


def test_random_weights_may_stray_farther():
    """By as much as is refused above."""
    noise = logits(1, scale=3.0)
    assert 0.5 < verify.compare([IDS], [logits()], [logits() + noise], INT4).mean_kl < 3


def test_prompts_are_of_all_kinds():
    family = FAMILIES["glm4_0414"]
    template = ChatTemplate(TEMPLATE, family, SPECIAL_TOKENS)
    *texts, call = ["".join(prompt) for prompt in verify.verification_prompts(family, template)]
    assert len(texts) == 3
    assert all(text.startswith("[gMASK]<sop><|user|>") for text in texts)
    assert 'get_weather\n{"city": "北京"}<|observation|>' in call
    assert len(verify.verification_prompts(FAMILIES["glm_edge"], template)) == 3
    assert all(
        text.startswith("[gMASK]<sop>") and "<|" not in text
        for (text,) in verify.verification_prompts(FAMILIES["base"], None)
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("source"))


def harm_constant(folder, name, value):
    """Sets all of a constant of the saved IR."""
    import openvino as ov

    model = ov.Core().read_model(folder / "openvino_model.xml")
    (constant,) = (op for op in model.get_ops() if op.get_friendly_name() == name)
    harmed = ov.opset13.constant(np.full(constant.get_output_shape(0), value), constant.get_element_type())
    harmed.set_friendly_name(name)
    for reader in constant.output(0).get_target_inputs():
        reader.replace_source_output(harmed.output(0))
    save_ir(model, folder / "harmed.xml")
    for end in ("xml", "bin"):
        (folder / f"harmed.{end}").replace(folder / f"openvino_model.{end}")


def constant(name, value):
    return lambda folder: harm_constant(folder, name, value)


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


DAMAGE = {
    "a scale is NaN": (constant("model.layers.0.mlp.down_proj.weight/scale", np.nan), "logits are NaN"),
    "a norm is infinite": (constant("model.norm.weight", np.inf), "logits are NaN"),
    "the head is zero": (constant("lm_head.weight/scale", 0), "one token everywhere"),
    "the embedding is zero": (constant("model.embed_tokens.weight/scale", 0), "one token everywhere"),
    "a layer's attention is zero": (constant("model.layers.0.self_attn.o_proj.weight/scale", 0), "KL divergence"),
    "a layer's scale is wrong": (constant("model.layers.0.self_attn.v_proj.weight/scale", -1), "KL divergence"),
    "the weights are cut short": (cut("openvino_model.bin", 30_000), "does not run"),
    "the graph is cut short": (cut("openvino_model.xml", 3_000), "does not run"),
}


@pytest.fixture(params=["whole", "by layers"])
def size(request, monkeypatch):
    """Whether the converted model is small enough to be loaded as a whole."""
    if request.param == "by layers":
        monkeypatch.setattr("convert.check.layerwise._WHOLE_MODEL_BYTES", 0)


@pytest.mark.slow
@pytest.mark.usefixtures("size")
@pytest.mark.parametrize(("harm", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_result_is_caught(source, tmp_path, monkeypatch, harm, message):
    with pytest.raises(VerificationError, match=message):
        harmed_conversion(source, tmp_path, monkeypatch, harm)
    assert list(tmp_path.iterdir()) == []


def harmed_conversion(source, parent, monkeypatch, harm):
    """Converts, with damage done between saving and verifying."""
    copy = pipeline.copy_text_files

    def copy_and_harm(described, folder):
        copy(described, folder)
        harm(folder)

    monkeypatch.setattr(pipeline, "copy_text_files", copy_and_harm)
    return list(convert(source, parent / "model", "int8"))


FORMS = {
    "int4, 0414": ("int4", {"layers": 3, "hidden": 128, "ffn": 256}),
    "int4, another group": ("int4", {"layers": 2, "ffn": 192, "dtype": "f32"}),
    "int4-npu, tied": ("int4-npu", {"format": "glm", "layers": 2, "tied": True}),
    "int8, biases, original format": ("int8", {"format": "chatglm", "layers": 2, "qkv_bias": True}),
    "bf16": ("bf16", {"layers": 2, "dtype": "bf16"}),
    "f32": ("bf16", {"layers": 2, "dtype": "f32"}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "tiny"), FORMS.values(), ids=FORMS.keys())
def test_a_layer_at_a_time_it_answers_the_same(tmp_path, monkeypatch, recipe, tiny):
    *_, last = convert(write_checkpoint(tmp_path / "source", **tiny), tmp_path / "model", recipe)
    ids = [np.arange(5, 25), np.arange(40, 47)]
    with CheckpointTensors.open(tmp_path / "source") as checkpoint:
        whole = saved.logits(last.result.path, checkpoint.architecture, ids)
        monkeypatch.setattr(saved, "_WHOLE_MODEL_BYTES", 0)
        by_layers = saved.logits(last.result.path, checkpoint.architecture, ids)
    for a, b in zip(whole, by_layers, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3, rtol=2e-3)


@pytest.mark.usefixtures("size")
def test_what_genai_cannot_use_is_caught(source, tmp_path, monkeypatch):
    with pytest.raises(VerificationError, match="GenAI cannot use"):
        harmed_conversion(
            source, tmp_path, monkeypatch, lambda folder: (folder / "openvino_tokenizer.xml").write_text("<")
        )
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_with_nan_is_called_damaged(source, tmp_path):
    """As after a training run that diverged."""
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    raw = bytearray((copy / "model.safetensors").read_bytes())
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    start = 8 + int.from_bytes(raw[:8], "little") + header["model.layers.0.mlp.down_proj.weight"]["data_offsets"][0]
    raw[start : start + 4] = np.float32(np.nan).tobytes()
    (copy / "model.safetensors").write_bytes(raw)
    with pytest.raises(VerificationError, match="the checkpoint's own logits are NaN"):
        list(convert(copy, tmp_path / "model", "bf16"))


def test_a_tokenizer_that_splits_differently_is_caught(tmp_path):
    """A merge is missing from what was written."""
    from convert.output.tokenizer import write_tokenizer

    other = read_tokenizer(write_tiktoken(tmp_path / "other", RANKS[:-1]), VOCABULARY)
    write_tokenizer(other, tmp_path)
    source = read_tokenizer(write_tiktoken(tmp_path / "source", RANKS), VOCABULARY)
    with pytest.raises(VerificationError, match='encodes or decodes "你好" differently'):
        verify.check_tokenizer(tmp_path, source, ["hello", "你好"])
    verify.check_tokenizer(tmp_path, other, ["hello", "你好"])
    (tmp_path / "openvino_detokenizer.xml").unlink()
    with pytest.raises(VerificationError, match="does not run"):
        verify.check_tokenizer(tmp_path, other, ["hello"])


@pytest.mark.slow
@pytest.mark.skipif(not (CHECKPOINT / "model.safetensors").exists(), reason="the embedded checkpoint is not here")
@pytest.mark.parametrize("recipe", ["int4", "int4-asym", "int4-small", "int4-npu", "nf4-npu", "int8", "bf16"])
def test_a_trained_checkpoint_stays_below_the_limit(tmp_path, recipe):
    """The embedded one, to which the prompts are foreign: it is at its least certain there."""
    *_, last = convert(CHECKPOINT, tmp_path / "model", recipe)
    mean_kl = last.result.manifest.verification["mean_kl"]
    assert mean_kl < 0.7 * RECIPES[recipe].max_kl
    assert mean_kl <= RECIPES[recipe].usual_kl
