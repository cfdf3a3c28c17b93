"""GLM-4.1V's tower and its decoder over embeddings, against transformers' own code."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.vision.embeddings_decoder import build_embeddings_decoder, build_embeddings_table
from convert.vision.glm4_1v_tower import build_glm41_tower
from runtime.checkpoint.architecture import Architecture, read_architecture
from runtime.checkpoint.config_object import ConfigObject
from runtime.checkpoint.safetensors_folder import SafetensorsFolder
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.checkpoint.vision.glm4_1v import Glm41Vision, read_glm41_vision, read_picture_size
from runtime.errors import CheckpointError, RequestError
from runtime.picture_size import PictureSize
from runtime.prompt.shifts import MAX_SHIFT, encode_shifts, mrope_shifts, shift_numbers

from . import glm4_1v
from .glm4_1v import PictureChat, weights

NEW_TOKENS = 20
Array = np.ndarray[Any, Any]

needs_transformers = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "transformers", "PIL"))), reason="needs torch, transformers, Pillow"
)


@pytest.fixture(scope="module")
def reference() -> Any:
    return glm4_1v.model()


def vision(model: Any) -> Glm41Vision:
    return read_glm41_vision(ConfigObject(model.config.vision_config.to_dict()), 96)


def architecture(model: Any) -> Architecture:
    return read_architecture(model.config.to_dict())


def compiled(model: Any) -> Any:
    import openvino as ov

    f32 = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    return ov.Core().compile_model(model, "CPU", f32)


@needs_transformers
def test_tower(reference: Any) -> None:
    """Features of pictures of any size are transformers'."""
    import torch

    tower = compiled(build_glm41_tower(vision(reference), weights(reference)))
    processor = glm4_1v.image_processor(do_resize=False)
    for height, width in ((112, 112), (28, 56), (84, 84), (140, 56), (56, 308), (420, 280), (28, 1120)):
        picture = glm4_1v.random_picture(height, width)
        features = tower([picture[np.newaxis]])[0]
        assert features.shape == (1, height * width // 28**2, 96)
        inputs = processor(images=[picture], return_tensors="pt")
        with torch.no_grad():
            expected = reference.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
        assert np.abs(features[0] - expected.numpy()).max() < 1e-4, (height, width)


@needs_transformers
def test_tower_with_biases() -> None:
    """A tower with attention_bias, as some fine-tunes have it."""
    import torch

    model = glm4_1v.model(attention_bias=True, depth=1)
    found = vision(model)
    stored = {name: tuple(value.shape) for name, value in model.state_dict().items() if ".visual." in name}
    assert dict(found.shapes()) == stored
    picture = glm4_1v.random_picture(84, 140)
    features = compiled(build_glm41_tower(found, weights(model)))([picture[np.newaxis]])[0]
    inputs = glm4_1v.image_processor(do_resize=False)(images=[picture], return_tensors="pt")
    with torch.no_grad():
        expected = model.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
    assert np.abs(features[0] - expected.numpy()).max() < 1e-4


@needs_transformers
@pytest.mark.parametrize("limits", [{}, {"shortest_edge": 4 * 28**2, "longest_edge": 64 * 28**2}])
def test_picture_size(reference: Any, limits: dict[str, int]) -> None:
    from transformers.models.glm4v.image_processing_pil_glm4v import smart_resize

    size = read_picture_size({"size": limits}, vision(reference))
    random = np.random.default_rng(5)
    sizes = [(1, 1), (27, 28), (1, 200), (1080, 1920), (42, 14), (70, 98), (4000, 6000), (30, 5800)]
    for height, width in [*sizes, *(np.exp(random.uniform(0, 8, (500, 2)))).astype(int).tolist()]:
        try:
            expected = smart_resize(2, height, width, min_pixels=size.min_pixels, max_pixels=size.max_pixels)
        except ValueError:
            with pytest.raises(RequestError, match="200 times"):
                size.pixels(height, width)
            continue
        assert size.pixels(height, width) == expected, (height, width)
        rows, columns = size.grid(height, width)
        assert rows * columns <= size.max_tokens or size.max_tokens < rows + columns


@needs_transformers
def test_two_pictures(reference: Any) -> None:
    """Logits of a prompt with two pictures, and greedy tokens that the plain graph generates at plain positions."""
    chat = PictureChat.make()
    expected, tokens = chat.reference(reference, NEW_TOKENS)
    a, weight = architecture(reference), weights(reference)
    tower = compiled(build_glm41_tower(vision(reference), weight))
    table = compiled(build_embeddings_table(a, weight))
    embeds = np.array(table([chat.ids[np.newaxis]])[0])
    assert not embeds[..., : shift_numbers(a.rope_sections)].any()
    features = [tower([picture[np.newaxis]])[0][0] for picture in chat.pictures]
    embeds[0, chat.ids == glm4_1v.IMAGE, 7:] = np.concatenate(features)
    shifts = mrope_shifts(chat.pieces)
    embeds[0, :, :7] = encode_shifts(shifts)
    request = compiled(build_embeddings_decoder(a, weight)).create_infer_request()

    def logits(embeds: Array, past: int) -> Array:
        end = past + embeds.shape[1]
        inputs = {
            "inputs_embeds": embeds,
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(past, end)[np.newaxis],
            "beam_idx": np.zeros(1, np.int32),
        }
        return np.array(request.infer(inputs)["logits"][0])

    found = logits(embeds, 0)
    assert np.abs(found - expected).max() < 1e-3
    generated = [int(found[-1].argmax())]
    while len(generated) < NEW_TOKENS:
        last = table([np.array([generated[-1:]])])[0]
        generated.append(int(logits(last, len(chat.ids) + len(generated) - 1)[-1].argmax()))
    assert generated == tokens
    request.reset_state()
    embeds[0, :, :7] = 0
    assert np.abs(logits(embeds, 0) - expected).max() > 0.1


@needs_transformers
def test_positions(reference: Any) -> None:
    """Positions and shifts differ by one number for all tokens and axes, which RoPE does not see."""
    import torch

    chat = PictureChat.make()
    ids = torch.tensor(chat.ids[np.newaxis])
    grid = torch.tensor([[1, 2 * height, 2 * width] for height, width in chat.grids])
    positions, delta = reference.model.get_rope_index(ids, (ids == glm4_1v.IMAGE).int(), grid)
    shifts = mrope_shifts(chat.pieces)
    moved = positions[:, 0].numpy().T - delta.item()
    assert (shifts + np.arange(len(shifts))[:, np.newaxis] == moved).all()
    assert not shifts[-len(chat.texts[-1]) :].any()


def test_encoded_shifts() -> None:
    """Two numbers in bf16 represent every shift."""
    edges = np.array([0, 1, -1, 127, 128, -128, -129, MAX_SHIFT, -MAX_SHIFT])
    numbers = encode_shifts(edges)
    assert numbers.shape == (len(edges), shift_numbers(()))
    assert (numbers.view(np.uint32) & 0xFFFF == 0).all()  # bf16 keeps the upper half of an f32
    assert (numbers @ [128, 1] == edges).all()
    three = encode_shifts(np.stack([edges, edges[::-1], edges * 0], axis=1))
    assert three.shape == (len(edges), shift_numbers((2, 1, 3)))
    assert (three[:, 0] == edges).all()
    assert (three[:, 1:] @ np.kron(np.eye(3), [[128], [1]]) == np.stack([edges, edges[::-1], edges * 0], 1)).all()


def test_too_many_picture_tokens() -> None:
    assert abs(mrope_shifts([3, (128, 255), 5])).max() < MAX_SHIFT
    with pytest.raises(RequestError, match=r"pictures are 40,000 tokens") as error:
        mrope_shifts([3, (200, 100), 5, (100, 200), 1])
    assert error.value.hint == "send fewer or smaller pictures"
    assert mrope_shifts([]).shape == (0, 3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glm4_1v")
    glm4_1v.write(folder)
    return folder


@needs_transformers
def test_checkpoint(checkpoint: Path) -> None:
    """What transformers saves is read: every tensor, in the shape that config.json says."""
    with CheckpointTensors.open(checkpoint) as tensors:
        a = tensors.architecture
        assert (a.rope_sections, a.qkv_bias, a.sandwich_norms, a.hidden) == (tuple(glm4_1v.SECTIONS), True, True, 96)
        assert isinstance(a.vision, Glm41Vision)
        assert {name: tensors.tensor(name).shape for name in tensors.names} == dict(a.all_shapes())
    size = read_picture_size(SafetensorsFolder.open(checkpoint).image_processor(), a.vision)
    assert size == PictureSize(28, 2, 112 * 112, 28 * 28 * 15000)


@needs_transformers
def test_flat_config(checkpoint: Path) -> None:
    """GLM-4.1V-9B-Thinking was published with the decoder's settings beside the tower's, and older names for RoPE's."""
    config = json.loads((checkpoint / "config.json").read_text())
    text = {key: value for key, value in config["text_config"].items() if key != "rope_parameters"}
    rope = {"type": "default", "mrope_section": glm4_1v.SECTIONS}
    top = {key: value for key, value in config.items() if key != "text_config"}
    flat = text | top | {"rope_scaling": rope, "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    assert read_architecture(flat) == read_architecture(config)


@needs_transformers
@pytest.mark.parametrize(
    ("text", "top", "message"),
    [
        ({"head_dim": 32}, {}, "head_dim is 32; it must be 24"),
        ({"attention_bias": False}, {}, "attention_bias"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, {}, "mrope_section"),
        ({"rope_parameters": {"mrope_section": [2, 2, 1]}}, {}, "has 5 pairs of dimensions, but RoPE rotates 6"),
        ({"rope_parameters": {"mrope_section": [2, 2, 2], "type": "linear", "factor": 2.0}}, {}, "extended context"),
        ({}, {"model_type": "glm4v_moe", "architectures": ["Glm4vMoeForConditionalGeneration"]}, "mixtures of experts"),
        (
            {},
            {"model_type": "glm46v", "architectures": ["Glm46VForConditionalGeneration"]},
            "architecture 'Glm46VForCon",
        ),
    ],
)
def test_rejected_configs(checkpoint: Path, text: dict[str, Any], top: dict[str, Any], message: str) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    with pytest.raises(CheckpointError, match=message):
        read_architecture(config | {"text_config": config["text_config"] | text} | top)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"out_hidden_size": 64}, "out_hidden_size is 64"),
        ({"num_heads": 7}, "7 heads"),
        ({"image_size": 10}, "image_size"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type"),
    ],
)
def test_rejected_towers(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_glm41_vision(ConfigObject(config), 4096)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_mean": [0.5, 0.5, 0.5]}, "the image processor: image_mean is"),
        ({"size": {"shortest_edge": 10}}, "impossible limits"),
        ({"size": {"longest_edge": "many"}}, "the image processor: longest_edge is 'many'"),
        ({"patch_size": 16}, "patch_size is 16; it must be 14"),
        ({"do_resize": False}, "do_resize"),
        ({"resample": 2}, "resample"),
    ],
)
def test_rejected_image_processors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_picture_size(settings, read_glm41_vision(ConfigObject({}), 4096))
