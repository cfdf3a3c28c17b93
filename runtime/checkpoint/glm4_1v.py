"""The image tower of GLM-4.1V and GLM-4.6V-Flash, as config.json and preprocessor_config.json describe it.

Pictures keep their proportions: each side is resized to a multiple of `factor` pixels, and two patches by two become
one token. The source of all rules is transformers' `models/glm4v`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError
from .config_object import CONFIG_HINT, ConfigObject

PREFIX = "model.visual."
# OpenAI's CLIP, which transformers' image processor normalises pixels by
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
_MOST_ELONGATED = 200  # width over height, or height over width


@dataclass(frozen=True, slots=True)
class Glm41Vision:
    """The tower of a Glm4vForConditionalGeneration. `hidden` is the decoder's width, `grid` the side of the square of
    learned positions, in patches; `min_pixels` and `max_pixels` count the pixels of `frames` equal frames."""

    layers: int
    width: int
    heads: int
    hidden: int
    merger_ffn: int
    grid: int
    patch: int
    merge: int
    frames: int
    norm_eps: float
    qkv_bias: bool
    rope_theta: float
    min_pixels: int
    max_pixels: int

    @property
    def head_dim(self) -> int:
        """The width of a head."""
        return self.width // self.heads

    @property
    def factor(self) -> int:
        """The pixels in a token's side."""
        return self.patch * self.merge

    def picture_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width in pixels that a picture is resized to, as `smart_resize` of transformers does.

        Raises ValueError for a picture that is too elongated.
        """
        factor, frames = self.factor, self.frames
        if height < factor or width < factor:
            scale = max(factor / height, factor / width)
            height, width = int(height * scale), int(width * scale)
        if max(height, width) / min(height, width) > _MOST_ELONGATED:
            raise ValueError(f"one side of the picture is over {_MOST_ELONGATED} times as long as the other")
        # Both round a half to the even number, as Python does.
        rows, columns = round(height / factor), round(width / factor)
        pixels = frames * rows * columns * factor**2
        if pixels > self.max_pixels:
            shrink = math.sqrt(frames * height * width / self.max_pixels)
            rows = max(1, math.floor(height / shrink / factor))
            columns = max(1, math.floor(width / shrink / factor))
        elif pixels < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (frames * height * width))
            rows, columns = math.ceil(height * grow / factor), math.ceil(width * grow / factor)
        return rows * factor, columns * factor

    def layer_shapes(self, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and shape of each tensor of one layer."""
        prefix, width = f"{PREFIX}blocks.{layer}.", self.width
        yield f"{prefix}norm1.weight", (width,)
        yield f"{prefix}attn.qkv.weight", (3 * width, width)
        if self.qkv_bias:
            yield f"{prefix}attn.qkv.bias", (3 * width,)
        yield f"{prefix}attn.proj.weight", (width, width)
        yield f"{prefix}norm2.weight", (width,)
        yield f"{prefix}mlp.gate_proj.weight", (self.hidden, width)
        yield f"{prefix}mlp.up_proj.weight", (self.hidden, width)
        yield f"{prefix}mlp.down_proj.weight", (width, self.hidden)

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and shape of every tensor, in the tower's order."""
        width, hidden, patch = self.width, self.hidden, self.patch
        yield f"{PREFIX}patch_embed.proj.weight", (width, 3, self.frames, patch, patch)
        yield f"{PREFIX}patch_embed.proj.bias", (width,)
        yield f"{PREFIX}post_conv_layernorm.weight", (width,)
        yield f"{PREFIX}embeddings.position_embedding.weight", (self.grid**2, width)
        for layer in range(self.layers):
            yield from self.layer_shapes(layer)
        yield f"{PREFIX}post_layernorm.weight", (width,)
        yield f"{PREFIX}downsample.weight", (hidden, width, self.merge, self.merge)
        yield f"{PREFIX}downsample.bias", (hidden,)
        yield f"{PREFIX}merger.proj.weight", (hidden, hidden)
        yield f"{PREFIX}merger.post_projection_norm.weight", (hidden,)
        yield f"{PREFIX}merger.post_projection_norm.bias", (hidden,)
        yield f"{PREFIX}merger.gate_proj.weight", (self.merger_ffn, hidden)
        yield f"{PREFIX}merger.up_proj.weight", (self.merger_ffn, hidden)
        yield f"{PREFIX}merger.down_proj.weight", (hidden, self.merger_ffn)


def read_glm41_vision(config: Mapping[str, Any], preprocessor: Mapping[str, Any], hidden: int) -> Glm41Vision:
    """Return the tower in the `vision_config` of a config.json and in a preprocessor_config.json, {} for transformers'
    defaults; `hidden` is the decoder's width. Raises CheckpointError."""
    vision, pixels = ConfigObject(config), ConfigObject(preprocessor)
    vision.require("hidden_act", "silu")
    vision.require("in_channels", 3)
    vision.require("out_hidden_size", hidden)
    rope = vision.section("rope_parameters")
    rope.require("rope_type", "axial")
    size = pixels.section("size")
    patch = vision.integer("patch_size", 14)
    tower = Glm41Vision(
        layers=vision.integer("depth", 24),
        width=vision.integer("hidden_size", 1536),
        heads=vision.integer("num_heads", 12),
        hidden=hidden,
        merger_ffn=vision.integer("intermediate_size", 13696),
        grid=vision.integer("image_size", 336) // patch,
        patch=patch,
        merge=vision.integer("spatial_merge_size", 2),
        frames=vision.integer("temporal_patch_size", 2),
        norm_eps=vision.number("rms_norm_eps", 0.0, 1.0, default=1e-5),
        qkv_bias=vision.boolean("attention_bias", False),
        rope_theta=rope.number("rope_theta", 1.001, 1e30, default=1e4),
        min_pixels=size.integer("shortest_edge", 112 * 112),
        max_pixels=size.integer("longest_edge", 28 * 28 * 15000),
    )
    _require_standard_pixels(pixels, tower)
    _validate(tower)
    return tower


def _require_standard_pixels(pixels: ConfigObject, tower: Glm41Vision) -> None:
    """Raise CheckpointError for a preparation of pixels other than that of the published checkpoints."""
    pixels.require("patch_size", tower.patch)
    pixels.require("merge_size", tower.merge)
    pixels.require("temporal_patch_size", tower.frames)
    pixels.require("image_mean", list(PIXEL_MEAN))
    pixels.require("image_std", list(PIXEL_STD))
    pixels.require("resample", 3)  # bicubic
    for switch in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"):
        pixels.require(switch, True)


def _validate(tower: Glm41Vision) -> None:
    fault = ""
    if tower.width % tower.heads or tower.head_dim % 4:
        fault = f"vision_config: {tower.heads} heads do not divide {tower.width} into multiples of four"
    elif tower.grid < 1:
        fault = "vision_config: image_size is less than patch_size"
    elif not tower.frames * tower.factor**2 <= tower.min_pixels <= tower.max_pixels:
        fault = "preprocessor_config.json: size has impossible limits"
    if fault:
        raise CheckpointError(f"config.json: {fault}", hint=CONFIG_HINT)
