"""optimum-intel's export, in our folder, answers what ours answers. Run by tests/environments/optimum.sh."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest

import edge
from convert.check import verify
from convert.pipeline import convert
from convert.recipe import RECIPES
from convert.source import optimum
from edge.demo import CHECKPOINT
from runtime.backends.backend import Delta, Options, Request
from runtime.checkpoint.architecture import read_architecture, read_config
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import ConversionError
from runtime.folder.ir import IR
from runtime.model import Model
from runtime.sampling import Sampling

from .test_pipeline import write_checkpoint

ARCHITECTURE = read_architecture(read_config(CHECKPOINT))


def installed():
    try:
        return version("optimum-intel")
    except PackageNotFoundError:
        return ""


needs_optimum = pytest.mark.skipif(not installed(), reason="optimum-intel is not installed here")
needs_none = pytest.mark.skipif(bool(installed()), reason="optimum-intel is installed here")


@pytest.mark.optimum
@needs_optimum
@pytest.mark.parametrize(
    ("recipe", "tiny"),
    [
        ("int4", None),
        ("int4-npu", None),
        ("int8", None),
        ("int4", {"format": "glm4", "dtype": "bf16", "layers": 2}),
        ("int4", {"format": "glm", "dtype": "bf16", "qkv_bias": True}),
    ],
)
def test_its_logits_are_ours(tmp_path, recipe, tiny):
    source = CHECKPOINT if tiny is None else write_checkpoint(tmp_path / "source", **tiny)
    architecture = read_architecture(read_config(source))
    ids = [np.random.default_rng(1).integers(0, min(architecture.vocab, 2000), 1000)]
    found = {}
    for exporter in ("edge", "optimum"):
        (*_, last) = convert(source, tmp_path / exporter, recipe, exporter=exporter)
        last.result.verify()
        (logits,) = verify.converted_logits(last.result.path, architecture, ids, whole=True)
        found[exporter] = last.result, logits
    (ours, wanted), (its, logits) = found.values()
    assert np.abs(wanted - logits).max() < 1e-4
    assert set(ours.manifest.files) == set(its.manifest.files)
    assert its.manifest.versions["optimum-intel"] == installed()
    assert IR.read(ours).npu_obstacles() == IR.read(its).npu_obstacles()


@pytest.mark.optimum
@needs_optimum
def test_closing_ends_it(tmp_path):
    import psutil

    steps = convert(CHECKPOINT, tmp_path / "model", "int4", exporter="optimum")
    next(step for step in steps if step.name == "export")
    (child,) = psutil.Process().children()
    steps.close()
    assert not child.is_running()
    assert list(tmp_path.iterdir()) == []


@needs_none
def test_where_it_is_missing_it_is_said(tmp_path):
    with pytest.raises(ConversionError, match="optimum-intel is not installed") as caught:
        list(convert(CHECKPOINT, tmp_path / "model", "int4", exporter="optimum"))
    assert "[optimum]" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("architecture", "recipe", "message"),
    [
        (replace(ARCHITECTURE, name="ChatGLMModel"), "int4", "which is never run"),
        (ARCHITECTURE, "bf16", "changes the checkpoint's weights to f16"),
    ],
)
def test_what_it_does_not_take_is_refused(monkeypatch, architecture, recipe, message):
    monkeypatch.setattr(optimum, "version", lambda name: "2.2.0")
    with pytest.raises(ConversionError, match=message) as caught:
        optimum.reject_unsupported(architecture, RECIPES[recipe])
    assert "--exporter" in caught.value.hint


_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}


@pytest.mark.optimum
@needs_optimum
@pytest.mark.parametrize(
    ("weights", "tiny"),
    [
        ("int8", None),
        ("fp16", {"format": "glm4", "dtype": "bf16", "layers": 2}),
        ("int8", {"format": "glm", "dtype": "bf16", "qkv_bias": True}),
        ("int4", {"format": "glm4", "dtype": "bf16", "hidden": 128, "ffn": 256}),
    ],
)
def test_its_own_folder_is_adopted_and_writes_the_same_tokens(tmp_path, weights, tiny):
    """20 greedy tokens of optimum's own model, of GenAI's own pipeline, and of ours."""
    import openvino as ov
    import openvino_genai as genai
    import torch
    from optimum.intel import OVModelForCausalLM

    source = CHECKPOINT if tiny is None else write_checkpoint(tmp_path / "source", **tiny)
    if tiny is not None:  # a tokenizer that transformers opens
        tokenizer = Checkpoint.open(source).tokenizer
        (source / "tokenizer.json").write_text(tokenizer.tokenizer.to_str(), encoding="utf-8")
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": tokenizer.eos_token}
        (source / "tokenizer_config.json").write_text(json.dumps(config))
        (source / "tokenizer.model").unlink()
    command = "export openvino --task text-generation-with-past --weight-format".split()
    call = [
        sys.executable,
        "-m",
        "optimum.commands.optimum_cli",
        *command,
        weights,
        "--model",
        source,
        tmp_path / "its",
    ]
    subprocess.run(call, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    folder = edge.adopt(tmp_path / "its")
    assert folder.manifest.versions["optimum-intel"] == installed()
    options = Options(precision="f32", kv_precision="f32", activation_group=0)
    with Model(folder, options=options, in_process=True) as model:
        prompt = model.prompt("Who are you?")
        ids = model.backend.encode(prompt)
        request = Request(prompt, (), Sampling(temperature=0, max_new_tokens=20).resolve())
        ours = [i for delta in model.backend.generate(request) if isinstance(delta, Delta) for i in delta.ids]
    optimum_model = OVModelForCausalLM.from_pretrained(folder.path, ov_config=_EXACT)
    generated = optimum_model.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False, eos_token_id=None)
    pipeline = genai.LLMPipeline(str(folder.path), "CPU", **_EXACT)
    config = genai.GenerationConfig(max_new_tokens=20, ignore_eos=True, apply_chat_template=False)
    bare = list(pipeline.generate(ov.Tensor(np.array([ids])), config).tokens[0])
    assert generated[0, len(ids) :].tolist() == bare == ours
