"""The context extended by a flag: logits against transformers with the config.json that it writes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.check.reference import logits
from edge.demo import CHECKPOINT
from runtime.checkpoint.long_context import extend_context
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import CheckpointError, ConversionError

from .checkpoints import Tiny

ROPE_5 = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
EXTENDED = {
    "as transformers 4 saves it": (Tiny(context=32), 128),
    "by less than four": (Tiny(context=32), 48),
    "as transformers 5 saves it": (Tiny(context=32, config={"rope_parameters": ROPE_5}), 128),
    "rope_scaling of the default type": (Tiny(context=32, config={"rope_scaling": {"type": "default"}}), 128),
    "linear": (Tiny(context=32, config={"rope_scaling": {"type": "linear", "factor": 4.0}}), 128),
    "dynamic": (Tiny(context=32, config={"rope_scaling": {"type": "dynamic", "factor": 2.0}}), 64),
    "dynamic of transformers 5": (
        Tiny(format="glm", context=32, config={"rope_parameters": {**ROPE_5, "rope_type": "dynamic", "factor": 2.0}}),
        64,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("tiny", "context"), EXTENDED.values(), ids=EXTENDED.keys())
def test_logits_over_the_whole_context_are_those_of_transformers(tiny: Tiny, context: int, tmp_path: Path) -> None:
    """A dynamic RoPE is compared with transformers' own, which sees the whole text at once."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tiny.write(tmp_path / "checkpoint")
    original = json.loads((folder / "config.json").read_text())
    config = extend_context(original, context)
    (folder / "config.json").write_text(json.dumps(config))
    ids = np.random.default_rng(5).integers(0, tiny.vocab, context)
    with CheckpointTensors.open(folder) as opened:
        assert opened.architecture.context == context
        (ours,) = logits(opened, [ids])
    kind = (original.get("rope_scaling") or original.get("rope_parameters") or {}).get
    if "dynamic" in (kind("type"), kind("rope_type")):
        (folder / "config.json").write_text(json.dumps(original))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        theirs = model(torch.tensor(ids[None]), use_cache=False).logits.numpy()[0]
    assert np.abs(ours - theirs).max() <= 1e-3


def test_what_the_makers_write() -> None:
    """GLM-4-0414's README: factor 4 over 32,768."""
    config = extend_context(Tiny(context=32768).config_json(), 131072)
    assert config["rope_scaling"] == {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert config["max_position_embeddings"] == 131072


REJECTED: dict[str, tuple[Tiny, int, str, str]] = {
    "shorter": (Tiny(context=4096), 4096, "has a context of 4,096 tokens already", "leave out"),
    "too long": (Tiny(context=32768), 131073, "cannot be extended to 131,073", "32,769 to 131,072"),
    "2024": (Tiny(format="chatglm", context=131072), 262144, "cannot be extended beyond its context", "GLM-4-0414"),
    "2024, -hf": (Tiny(format="glm", context=131072), 262144, "cannot be extended beyond its context", "GLM-4-0414"),
    "1M": (Tiny(format="chatglm", context=1048576), 2**21, "beyond its context of 1,048,576", "GLM-4-0414"),
    "Rumination": (Tiny(context=131072), 262144, "beyond its context of 131,072", "GLM-4-0414"),
    "YaRN already": (
        Tiny(context=32, config={"rope_scaling": {"type": "yarn", "factor": 4.0}}),
        256,
        "beyond its context of 128",
        "GLM-4-0414",
    ),
    "more than linear": (
        Tiny(context=32, config={"rope_scaling": {"type": "linear", "factor": 2.0}}),
        65,
        "cannot be extended to 65",
        "33 to 64",
    ),
}


@pytest.mark.parametrize(("tiny", "context", "error", "cure"), REJECTED.values(), ids=REJECTED.keys())
def test_a_context_that_cannot_be_had(tiny: Tiny, context: int, error: str, cure: str) -> None:
    with pytest.raises(CheckpointError, match=error) as caught:
        extend_context(tiny.config_json(), context)
    assert cure in caught.value.hint


@pytest.mark.slow
def test_a_converted_folder_has_the_context(tmp_path: Path) -> None:
    """In its manifest and config.json; it is evaluated against the extended checkpoint."""
    import edge
    from edge.evaluation.target import EvaluationTarget

    folder = edge.convert(CHECKPOINT, tmp_path / "long", "int8", context=8192)
    config = json.loads((folder.path / "config.json").read_text())
    assert (folder.context_length, config["max_position_embeddings"]) == (8192, 8192)
    assert config["rope_parameters"] == {
        "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0,
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 2048,
    }
    assert any("extended from 2,048 to 8,192 tokens" in note for note in folder.manifest.notes)
    assert EvaluationTarget.open(folder.path).open_checkpoint(CHECKPOINT).architecture.context == 8192
    with edge.Chat(folder, in_process=True) as chat:
        assert chat.send("Who are you?", max_new_tokens=20)


@pytest.mark.parametrize("exporter", ["optimum"])
def test_other_exporters_extend_nothing(exporter: Any, tmp_path: Path) -> None:
    import edge

    shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")
    with pytest.raises(ConversionError, match="--context is not supported with optimum-intel"):
        edge.convert(tmp_path / "checkpoint", tmp_path / "out", "int8", exporter=exporter, context=8192)
