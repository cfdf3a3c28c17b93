"""Tiny random checkpoints of transformers' Glm4vForConditionalGeneration, for tests."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from openvino import opset13 as ops

from edge.demo import CHECKPOINT

from .references import VISION

Array = np.ndarray[Any, Any]
IMAGE, BEGIN, END = 150, 152, 153  # token ids
SECTIONS = [2, 1, 3]


def config(*, vocab: int = 200, image: int = IMAGE, **changes: Any) -> Any:
    """A Glm4vConfig in a tiny size; `changes` are for the tower."""
    from transformers import Glm4vConfig

    vision = {
        "depth": 3,
        "hidden_size": 64,
        "num_heads": 2,
        "out_hidden_size": 96,
        "intermediate_size": 160,
        "image_size": 84,
    }
    text = {
        "vocab_size": vocab,
        "hidden_size": 96,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": SECTIONS,
        },
    }
    return Glm4vConfig(
        vision_config=vision | changes,
        text_config=text,
        image_token_id=image,
        video_token_id=151,
        image_start_token_id=BEGIN,
        image_end_token_id=END,
        video_start_token_id=154,
        video_end_token_id=155,
    )


def model(**changes: Any) -> Any:
    """A model with random weights, of a size that keeps activations and logits of the order of 1."""
    import torch
    from transformers import Glm4vForConditionalGeneration

    torch.manual_seed(1)
    made = Glm4vForConditionalGeneration(config(**changes)).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn_like(weight) * 1.5 / weight[0].numel() ** 0.5)
            else:
                weight.copy_(0.3 * torch.randn_like(weight) + ("norm" in name and name.endswith("weight")))
    return made


def random_picture(height: int, width: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def image_processor(**settings: Any) -> Any:
    from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil

    return Glm4vImageProcessorPil(**settings)


@dataclass(frozen=True)
class PictureChat:
    """The prompt of a chat in which two turns have a picture each: the second one is wider than high."""

    pictures: tuple[Array, Array]
    texts: tuple[tuple[int, ...], ...]  # token ids before, between and after the pictures

    @classmethod
    def make(cls) -> "PictureChat":
        random = np.random.default_rng(2)
        before, between, after = (tuple(map(int, random.integers(1, 140, count))) for count in (9, 19, 5))
        pictures = random_picture(140, 84, 3), random_picture(56, 196, 4)
        return cls(pictures, ((*before, BEGIN), (END, *between, BEGIN), (END, *after)))

    @property
    def grids(self) -> list[tuple[int, int]]:
        return [(picture.shape[0] // 28, picture.shape[1] // 28) for picture in self.pictures]

    @property
    def ids(self) -> Array:
        counts = [height * width for height, width in self.grids]
        images = [(IMAGE,) * counts[0], (IMAGE,) * counts[1], ()]
        return np.array([id for text, image in zip(self.texts, images, strict=True) for id in (*text, *image)])

    @property
    def pieces(self) -> list[int | tuple[int, int]]:
        first, second, third = map(len, self.texts)
        return [first, self.grids[0], second, self.grids[1], third]

    def reference(self, model: Any, new_tokens: int) -> tuple[Array, list[int]]:
        """transformers' logits of the whole prompt, and its greedy tokens."""
        import torch

        pixels = image_processor(do_resize=False)(images=list(self.pictures), return_tensors="pt")
        ids = torch.tensor(self.ids[np.newaxis])
        inputs = {"input_ids": ids, "mm_token_type_ids": (ids == IMAGE).int(), **pixels}
        with torch.no_grad():
            logits = model(**inputs).logits[0].numpy()
            settings = {"do_sample": False, "max_new_tokens": new_tokens, "min_new_tokens": new_tokens}
            generated = model.generate(**inputs, attention_mask=torch.ones_like(ids), **settings)
        return logits, generated[0, ids.shape[1] :].tolist()


def write(folder: Path, family: str = "glm4_1v", **changes: Any) -> Any:
    """Save a random checkpoint with transformers, with its image processor's settings, the embedded checkpoint's
    tokenizer and our own template of the family; return the model. Its weights are numbers of bf16."""
    import torch

    made = model(**changes)
    with torch.no_grad():
        for weight in made.parameters():  # not the whole model: its table of RoPE stays in f32
            weight.copy_(weight.to(torch.bfloat16))
    made.save_pretrained(folder)
    image_processor().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(CHECKPOINT / name, folder / name)
    template = next(template for template in VISION.values() if template.family == family)
    (folder / "chat_template.jinja").write_text(template.source)
    return made


def weights(model: Any) -> Callable[[str], Any]:
    """The model's tensors as constants, by canonical name."""
    tensors = model.state_dict()

    def weight(name: str) -> Any:
        if name.startswith("model.") and name not in tensors:
            name = name.replace("model.", "model.language_model.", 1)
        return ops.constant(tensors[name].numpy())

    return weight
