from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import measure_layer
from convert.check import cpu_plugin as engine
from convert.check import divergence as quality
from convert.check import layerwise as saved
from convert.check import reference
from convert.pipeline import convert
from convert.recipe import RECIPES, get_recipe
from edge.demo import CHECKPOINT
from runtime.checkpoint.architecture import read_architecture, read_config
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import VerificationError
from runtime.folder.model_folder import ModelFolder

from .test_pipeline import write_checkpoint

FORMS = {
    "0414": {"layers": 2, "hidden": 128, "ffn": 256},
    "original, tied": {"format": "chatglm", "layers": 2, "qkv_bias": True, "tied": True, "dtype": "bf16"},
}


@pytest.fixture(scope="module", params=FORMS)
def source(request, tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("quality") / "tiny", **FORMS[request.param])


@pytest.fixture(scope="module")
def folders(source, tmp_path_factory):
    """By recipe."""
    parent = tmp_path_factory.mktemp("folders")

    class Folders(dict):
        def __missing__(self, recipe):
            for _ in convert(source, parent / recipe, recipe):
                pass
            self[recipe] = ModelFolder.open(parent / recipe)
            return self[recipe]

    return Folders()


@pytest.fixture
def checkpoint(source):
    with CheckpointTensors.open(source) as found:
        yield found


def texts(vocabulary, *lengths):
    draw = np.random.default_rng(3)
    return [draw.integers(0, vocabulary, length) for length in lengths]


def answers_of(folder, architecture, ids):
    layers = saved.LayerwiseModel(folder.path, architecture)
    return quality.LogitSource(layers.hidden_states(ids), layers.head())


@pytest.mark.slow
def test_a_text_in_chunks_is_the_whole_text(monkeypatch, checkpoint, folders):
    ids = texts(checkpoint.architecture.vocab, 150, 3, 64)
    whole = reference.logits(checkpoint, ids)
    path = folders["int8"].path
    at_once = answers_of(folders["int8"], checkpoint.architecture, ids)
    monkeypatch.setattr(reference, "CHUNK", 32)
    monkeypatch.setattr(engine, "_CHUNK", 32)
    for a, b in zip(whole, reference.logits(checkpoint, ids), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-3)
    run_in_chunks = saved.LayerwiseModel(path, checkpoint.architecture).hidden_states(ids)
    exact = engine.CpuPlugin(path, engine.WEIGHTS_ONLY).hidden_states(ids)  # reads the same IR whole
    for x, y, z in zip(at_once.states, run_in_chunks, exact, strict=True):
        np.testing.assert_allclose(y, x, atol=1e-3)
        np.testing.assert_allclose(z, x, atol=1e-3)
    np.testing.assert_allclose(engine.plugin_head(path)(exact[2]), at_once.head(at_once.states[2]), atol=2e-2)


@pytest.mark.slow
def test_figures_are_those_of_the_formulas(monkeypatch, checkpoint, folders):
    """In f64, over whole texts; ours are made of blocks that fit neither the texts nor one another."""
    ids = texts(checkpoint.architecture.vocab, 150, 37)
    monkeypatch.setattr(quality, "POSITIONS", 50)
    monkeypatch.setattr(quality, "_LOGITS_PER_BLOCK", 7 * checkpoint.architecture.vocab)
    wanted = quality.LogitSource(reference.hidden_states(checkpoint, ids), reference.checkpoint_head(checkpoint))
    answers = answers_of(folders["int8"], checkpoint.architecture, ids)
    readings = quality.compare_logits(ids, answers, wanted)
    found = readings.figures()
    p, q = (
        [log_probabilities(who.head(states)) for states in who.states] for who in (wanted, answers)
    )  # texts of (T,vocab)
    divergence = np.concatenate([(np.exp(a) * (a - b)).sum(-1) for a, b in zip(p, q, strict=True)])
    assert found.tokens == 187
    assert found.mean_kl == pytest.approx(divergence.mean(), rel=1e-3)
    assert found.max_kl == pytest.approx(divergence.max(), rel=1e-3)
    assert found.p99_kl == pytest.approx(np.quantile(divergence, 0.99), rel=1e-3)
    same = np.concatenate([a.argmax(-1) == b.argmax(-1) for a, b in zip(p, q, strict=True)])
    assert found.top1 == same.mean()
    for table, perplexity in ((p, found.reference_perplexity), (q, found.perplexity)):
        chances = np.concatenate([t[np.arange(len(i) - 1), i[1:]] for t, i in zip(table, ids, strict=True)])
        assert perplexity == pytest.approx(np.exp(-chances.mean()), rel=1e-4)
    by_context = readings.by_context()
    assert {context: some.tokens for context, some in by_context.items()} == {128: 128 + 37, 512: 22}
    assert by_context[512].mean_kl == pytest.approx(divergence[128:150].mean(), rel=1e-3)
    assert readings.figures(readings.text_index == 1).mean_kl == pytest.approx(divergence[150:].mean(), rel=1e-3)


def log_probabilities(logits):
    logits = logits.astype(np.float64)
    return (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("source", ["0414"], indirect=True)
def test_more_bits_are_nearer(checkpoint, folders):
    ids = texts(checkpoint.architecture.vocab, 200)
    wanted = quality.LogitSource(reference.hidden_states(checkpoint, ids), reference.checkpoint_head(checkpoint))
    kl = {
        name: quality.compare_logits(ids, answers_of(folders[name], checkpoint.architecture, ids), wanted)
        .figures()
        .mean_kl
        for name in ("bf16", "int8", "int4")
    }
    assert kl["bf16"] < 1e-6 < kl["int8"] < kl["int4"] < RECIPES["int4"].max_kl * 6


@pytest.mark.parametrize("source", ["0414"], indirect=True)
def test_without_a_reference_perplexity_stays(checkpoint, folders):
    ids = texts(checkpoint.architecture.vocab, 40, 1)
    found = quality.compare_logits(ids, answers_of(folders["int8"], checkpoint.architecture, ids)).figures()
    assert (found.tokens, found.mean_kl, found.top1, found.reference_perplexity) == (41, None, None, None)
    assert found.perplexity > 1


def test_nan_is_no_figure():
    states, head = [np.zeros((3, 4), np.float32)], lambda x: np.full((len(x), 5), np.nan, np.float32)
    with pytest.raises(VerificationError, match="are NaN"):
        quality.compare_logits([np.arange(3)], quality.LogitSource(states, head))


@pytest.fixture(scope="module")
def demo_ids(demo_folder):
    import openvino_genai as genai

    text = "How much is the ticket to the museum? " * 40
    ids = genai.Tokenizer(str(demo_folder.path)).encode(text, add_special_tokens=False).input_ids.data[0]
    return [np.array(ids[:400])]


@pytest.mark.slow
def test_a_coarser_cache_strays_farther(demo_folder, demo_ids):
    path = demo_folder.path
    head = engine.plugin_head(path)
    exact = quality.LogitSource(engine.CpuPlugin(path, engine.WEIGHTS_ONLY).hidden_states(demo_ids), head)
    parts = {setting.name: setting for setting in engine.settings()}
    kl = {}
    for name in ("KV f16", "KV u8", "KV u4"):
        loaded = engine.CpuPlugin(path, parts[name])
        assert name.removeprefix("KV ") in loaded.describe_plugin()
        readings = quality.compare_logits(demo_ids, quality.LogitSource(loaded.hidden_states(demo_ids), head), exact)
        kl[name] = readings.figures().mean_kl
        assert readings.by_context()[128].max_kl < 1e-6  # the first chunk does not read the cache
    assert kl["KV f16"] < kl["KV u8"] < kl["KV u4"]


def test_a_greedy_reply_is_what_the_model_expects_of_itself(demo_folder, demo_ids):
    path, prompt = demo_folder.path, demo_ids[0][:150]
    loaded, head = engine.CpuPlugin(path, engine.WEIGHTS_ONLY), engine.plugin_head(Path(path))
    reply = loaded.greedy(prompt, head, 12)
    assert len(reply) == 12
    states = loaded.hidden_states([np.array([*prompt, *reply])])[0]
    assert quality.greedy_tokens(states[len(prompt) - 1 : -1], head).tolist() == reply
    assert loaded.greedy(prompt, head, 12, stops=reply[3:4]) == reply[: reply.index(reply[3])]


@pytest.mark.slow
def test_the_table_of_one_layer_tells_recipes_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = replace(read_architecture(read_config(CHECKPOINT)), hidden=128, ffn=256)
    int4, int8, bf16 = measure_layer(small, [get_recipe(name) for name in ("int4", "int8", "bf16")])
    assert 1 > int4.error > 5 * int8.error > 0.01
    assert bf16.error < 1e-3
    assert int4.cosine < int8.cosine <= bf16.cosine + 1e-6
    assert int4.bits < int8.bits < bf16.bits == 16
