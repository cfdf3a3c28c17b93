"""GLM-4V-9B: its tower and its decoder over embeddings, against the published code's numbers, numpy, and the text
decoder over ids."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.check.ir_weights import read_ir
from convert.graph import build_decoder, uncompressed_weights
from convert.output.scratch import save_ir
from convert.output.tokenizer import write_tokenizer
from convert.parts import build_stub
from convert.pipeline import convert
from convert.vision.embeddings_decoder import build_embeddings_decoder, build_embeddings_table
from convert.vision.eva_clip_tower import build_eva_clip_tower, eva_clip_stages
from runtime.checkpoint.architecture import Architecture, read_architecture
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.checkpoint.vision.eva_clip import EvaClipVision
from runtime.errors import CheckpointError
from runtime.folder.ir_files import DECODER, LANGUAGE, STUB, TABLE, TOWER
from runtime.prompt.shifts import encode_shifts

from .glm4v import TinyVision, random_pixels, write_vision_checkpoint
from .references import REFERENCE

Array = np.ndarray[Any, Any]
PUBLISHED = REFERENCE / "glm-4v-tiny-random"
F32 = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}


def compiled(model: Any) -> Any:
    import openvino as ov

    return ov.Core().compile_model(read_ir(model) if isinstance(model, Path) else model, "CPU", F32)


def vision_of(architecture: Architecture) -> EvaClipVision:
    assert isinstance(architecture.vision, EvaClipVision)
    return architecture.vision


class EmbeddingsDecoder:
    """A decoder over embeddings, as OpenVINO runs it without GenAI."""

    def __init__(self, decoder: Any) -> None:
        self.request = compiled(decoder).create_infer_request()

    def logits(self, embeds: Array, positions: Array | None = None, past: int = 0) -> Array:
        """The logits of some embeddings (tokens, width), at plain positions if none are given."""
        end = past + len(embeds)
        inputs = {
            "inputs_embeds": embeds[np.newaxis],
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(past, end)[np.newaxis] if positions is None else positions[np.newaxis],
            "beam_idx": np.zeros(1, np.int32),
        }
        return np.array(self.request.infer(inputs)["logits"][0])


def shifts(before: int, tokens: int, after: int) -> Array:
    """Shifts of a prompt with a picture of so many tokens, its begin and end not counted: all of them stand in one
    place, so what precedes them is moved on."""
    picture = np.arange(tokens - 1, -1, -1)
    return np.concatenate([np.full(before + 1, tokens - 1), picture, np.zeros(1 + after, np.int64)])


def positions(before: int, tokens: int, after: int) -> Array:
    """The published rule."""
    return np.concatenate([np.arange(before + 1), np.full(tokens, before + 1), before + 2 + np.arange(1 + after)])


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the reference")
def test_published_numbers(tmp_path: Path) -> None:
    """The converted folder makes the published code's features, logits and greedy tokens."""
    expected = np.load(PUBLISHED / "expected.npz")
    list(convert(PUBLISHED, tmp_path / "model", "bf16"))
    features = compiled(tmp_path / "model" / f"{TOWER}.xml")([expected["pixels"]])[0][0]
    assert np.abs(features - expected["features"][0]).max() <= 1e-4
    ids, config = expected["prompt_ids"], json.loads((PUBLISHED / "config.json").read_text())
    place = ids.tolist().index(config["boi_token_id"])
    table = compiled(tmp_path / "model" / f"{TABLE}.xml")

    def embed(ids: Array) -> Array:
        return np.array(table([np.asarray(ids)[np.newaxis]])[0][0])

    picture = np.concatenate([np.zeros((len(features), 2), np.float32), features], axis=1)
    embeds = np.concatenate([embed(ids[:place]), picture, embed(ids[place + 3 :])])
    embeds[:, :2] = encode_shifts(shifts(place, len(features) - 2, len(ids) - place - 3))
    decoder = EmbeddingsDecoder(tmp_path / "model" / f"{LANGUAGE}.xml")
    found = decoder.logits(embeds)
    assert np.abs(found - expected["logits"]).max() <= 1e-3
    greedy = [int(found[-1].argmax())]
    while len(greedy) < len(expected["greedy_ids"]):
        last = decoder.logits(embed(np.array(greedy[-1:])), past=len(embeds) + len(greedy) - 1)
        greedy.append(int(last[-1].argmax()))
    assert greedy == expected["greedy_ids"].tolist()


@pytest.mark.parametrize(
    "tiny",
    [
        {},
        {"dtype": "f16", "scaling": 1.0, "tower_heads": 1},
        {"dtype": "mixed", "image_size": 140, "tower_width": 64, "tower_heads": 4, "seed": 2},
        pytest.param(
            {"image_size": 1120, "tower_layers": 1, "tower_width": 32, "tower_heads": 2},
            id="1,600 tokens",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_tower(tiny: dict[str, Any], tmp_path: Path) -> None:
    """The graph's features are numpy's."""
    with CheckpointTensors.open(write_vision_checkpoint(tmp_path, **tiny)) as tensors:
        vision = vision_of(tensors.architecture)
        x = pixels = random_pixels(vision.image_size)
        for stage in eva_clip_stages(vision):
            x = stage.compute(x, lambda name: tensors.tensor(name).f32())
        features = compiled(build_eva_clip_tower(vision, uncompressed_weights(tensors)))([pixels])[0]
    assert features.shape == (1, (vision.image_size // 28) ** 2 + 2, vision.hidden)
    assert np.abs(features - x).max() <= 1e-3


@pytest.mark.parametrize("tokens", [4, 16, 1600])
def test_shifts(tokens: int, tmp_path: Path) -> None:
    """Logits with shifts from plain positions are those with the published code's positions."""
    before, after = 5, 9
    random = np.random.default_rng(1)
    with CheckpointTensors.open(write_vision_checkpoint(tmp_path, layers=2)) as tensors:
        decoder = EmbeddingsDecoder(build_embeddings_decoder(tensors.architecture, uncompressed_weights(tensors)))
        embeds = random.standard_normal((before + tokens + 2 + after, 2 + 64)).astype(np.float32)
        embeds[:, :2] = 0
        expected = decoder.logits(embeds, positions(before, tokens, after))
        decoder.request.reset_state()
        plain = decoder.logits(embeds)
        decoder.request.reset_state()
        embeds[:, :2] = encode_shifts(shifts(before, tokens, after))
        found = decoder.logits(embeds)
    assert np.abs(found - expected).max() <= 1e-3
    assert np.abs(plain - expected).max() > 0.01


def write_folders(checkpoint: Path, ids: Path, embeddings: Path) -> None:
    """Write the text decoder over ids, and the vision model's parts, as GenAI opens them."""
    described = Checkpoint.open(checkpoint)
    a = described.architecture
    with described.weights() as tensors:
        weight = uncompressed_weights(tensors)
        for folder, models in (
            (ids, {DECODER: build_decoder(replace(a, vision=None), weight)}),
            (
                embeddings,
                {LANGUAGE: build_embeddings_decoder(a, weight), TABLE: build_embeddings_table(a, weight)}
                | {STUB: build_stub()},
            ),
        ):
            folder.mkdir()
            for name, model in models.items():
                save_ir(model, folder / f"{name}.xml")
            write_tokenizer(described.tokenizer, folder)
            (folder / "config.json").write_text(json.dumps({"model_type": "llava", "hidden_size": a.hidden + 2}))
            (folder / "preprocessor_config.json").write_text("{}")
    (ids / "config.json").write_text((checkpoint / "config.json").read_text())


@pytest.mark.parametrize("precision", ["bf16", "f32"])
def test_embeddings_are_as_exact_as_ids(precision: str, tmp_path: Path) -> None:
    """A prompt by its embeddings has the log-probability that it has by its ids, to the last digit. RoPE's angles
    would otherwise be rounded to bf16."""
    import openvino as ov
    import openvino_genai as genai

    write_folders(write_vision_checkpoint(tmp_path / "checkpoint", layers=2), tmp_path / "ids", tmp_path / "embeddings")

    def pipeline(folder: Path) -> Any:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size, scheduler.max_num_batched_tokens = 0, 512
        scheduler.dynamic_split_fuse = True
        properties = {"INFERENCE_PRECISION_HINT": precision, "KV_CACHE_PRECISION": precision}
        return genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", properties)

    def first_token(pipeline: Any, prompt: Array) -> tuple[int, float]:
        config = genai.GenerationConfig(max_new_tokens=1, ignore_eos=True, apply_chat_template=False, logprobs=1)
        handle = pipeline.add_request(0, ov.Tensor(prompt), config)
        while not handle.can_read():
            pipeline.step()
        (output,) = handle.read().values()
        return output.generated_ids[0], output.generated_log_probs[0]

    by_ids, by_embeddings = pipeline(tmp_path / "ids"), pipeline(tmp_path / "embeddings")
    table = compiled(tmp_path / "embeddings" / f"{TABLE}.xml")
    random = np.random.default_rng(1)
    for length in (20, 500, 1500):
        ids = random.integers(0, 256, (1, length))
        assert first_token(by_embeddings, np.array(table([ids])[0])) == first_token(by_ids, ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "silu"}, "hidden_act is 'silu'; it must be 'gelu'"),
        ({"in_channels": 1}, "in_channels is 1"),
        ({"num_heads": 5}, "5 heads do not divide the tower's width of 48"),
        ({"num_positions": 257}, "num_positions is 257; it must be 17"),
        ({"image_size": 70, "num_positions": 26}, "image_size 70 is no multiple of 2 patches of 14 pixels"),
        ({"scaling_factor": 0}, "scaling_factor is 0"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps is 'small'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ],
)
def test_rejected_towers(changes: dict[str, Any], message: str) -> None:
    config = TinyVision().config_json()
    with pytest.raises(CheckpointError, match=message):
        read_architecture(config | {"vision_config": config["vision_config"] | changes})


def test_tensors_of_the_tower_are_checked(tmp_path: Path) -> None:
    """A tower of another shape, or without a tensor, is rejected by the tensor's name."""
    folder = write_vision_checkpoint(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for changes, message in (
        ({"intermediate_size": 96}, r"layers\.0\.mlp\.fc1\.weight' has the shape \[80, 48\]"),
        ({"num_hidden_layers": 3}, r"layers\.2\.\S+ is missing"),
        ({"num_hidden_layers": 1}, r"layers\.1\."),
    ):
        vision = config["vision_config"] | changes
        (folder / "config.json").write_text(json.dumps(config | {"vision_config": vision}))
        with pytest.raises(CheckpointError, match=message):
            CheckpointTensors.open(folder)
