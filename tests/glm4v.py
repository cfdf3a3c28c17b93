"""Tiny random checkpoints of glm-4v-9b's architecture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoints import Tiny
from .references import write_tiktoken
from .test_tokenizer import RANKS, VOCABULARY

Array = np.ndarray[Any, Any]
PREFIX = "transformer.vision."
PATCH = 14
BEGIN_OF_IMAGE = "<|begin_of_image|>"


@dataclass(frozen=True)
class TinyVision(Tiny):
    """A ChatGLMModel with an image tower. Its decoder is that of a `Tiny`."""

    format: str = "chatglm"
    qkv_bias: bool = True
    vocab: int = VOCABULARY + 6
    tower_layers: int = 2
    tower_width: int = 48
    tower_heads: int = 3
    tower_ffn: int = 80
    image_size: int = 56
    scaling: float = 8.0

    @property
    def positions(self) -> int:
        """Patches, and the class token."""
        return (self.image_size // PATCH) ** 2 + 1

    def config_json(self) -> dict[str, Any]:
        vision = {
            "dropout_prob": 0.0,
            "hidden_act": "gelu",
            "in_channels": 3,
            "num_hidden_layers": self.tower_layers,
            "hidden_size": self.tower_width,
            "patch_size": PATCH,
            "num_heads": self.tower_heads,
            "intermediate_size": self.tower_ffn,
            "layer_norm_eps": 1e-06,
            "num_positions": self.positions,
            "image_size": self.image_size,
            "scaling_factor": self.scaling,
        }
        ends = {"eos_token_id": [len(RANKS), len(RANKS) + 7]}
        return super().config_json() | {"vision_config": vision} | ends | self.config

    def stored(self) -> dict[str, Array]:
        return super().stored() | {f"{PREFIX}{name}": value for name, value in self.tower_weights().items()}

    def tower_weights(self) -> dict[str, Array]:
        """Every tensor of the tower in f32, by its name without `transformer.vision.`."""
        random = np.random.default_rng(self.seed + 100)
        width, hidden = self.tower_width, self.hidden

        def draw(*shape: int, scale: float = 1.0, mean: float = 0.0) -> Array:
            return (mean + scale * random.standard_normal(shape)).astype(np.float32)

        def linear(name: str, rows: int, columns: int, *, bias: bool = True) -> dict[str, Array]:
            found = {f"{name}.weight": draw(rows, columns, scale=columns**-0.5)}
            return found | ({f"{name}.bias": draw(rows, scale=0.3)} if bias else {})

        def norm(name: str, size: int) -> dict[str, Array]:
            return {f"{name}.weight": draw(size, scale=0.1, mean=1.0), f"{name}.bias": draw(size, scale=0.3)}

        found = {
            "patch_embedding.cls_embedding": draw(1, width),
            "patch_embedding.proj.weight": draw(width, 3, PATCH, PATCH, scale=588**-0.5),
            "patch_embedding.proj.bias": draw(width),
            "patch_embedding.position_embedding.weight": draw(self.positions, width),
        }
        for layer in range(self.tower_layers):
            prefix = f"transformer.layers.{layer}."
            found |= norm(f"{prefix}input_layernorm", width)
            found |= linear(f"{prefix}attention.query_key_value", 3 * width, width)
            found |= linear(f"{prefix}attention.dense", width, width)
            found |= linear(f"{prefix}mlp.fc1", self.tower_ffn, width)
            found |= linear(f"{prefix}mlp.fc2", width, self.tower_ffn)
            found |= norm(f"{prefix}post_attention_layernorm", width)
        found |= {"conv.weight": draw(hidden, width, 2, 2, scale=(4 * width) ** -0.5), "conv.bias": draw(hidden)}
        found |= linear("linear_proj.linear_proj", hidden, hidden, bias=False)
        found |= norm("linear_proj.norm1", hidden)
        found |= linear("linear_proj.gate_proj", self.ffn, hidden, bias=False)
        found |= linear("linear_proj.dense_h_to_4h", self.ffn, hidden, bias=False)
        found |= linear("linear_proj.dense_4h_to_h", hidden, self.ffn, bias=False)
        return found | {"boi": draw(1, 1, hidden), "eoi": draw(1, 1, hidden)}


def write_vision_checkpoint(folder: Path, **tiny: Any) -> Path:
    """Write a tiny checkpoint with a tokenizer. Like the published one it has no chat template."""
    TinyVision(**{"layers": 1, "dtype": "bf16"} | tiny).write(folder)
    write_tiktoken(folder, RANKS)
    return folder


def random_pixels(side: int, seed: int = 3) -> Array:
    """A picture of noise on a gradient, (1,side,side,3)."""
    random = np.random.default_rng(seed)
    gradient = np.linspace(0, 200, side).astype(np.uint8)[:, np.newaxis, np.newaxis]
    return (gradient + random.integers(0, 56, (side, side, 3)).astype(np.uint8))[np.newaxis]
