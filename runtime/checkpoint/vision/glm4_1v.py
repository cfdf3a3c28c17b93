"""The image tower of GLM-4.1V and GLM-4.6V-Flash, as config.json and preprocessor_config.json describe it.

Pictures keep their proportions: each side is resized to a multiple of a token's, which two patches by two become. The
source of all rules is transformers' `models/glm4v`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import CheckpointError
from ...picture_size import PictureSize
from ..config_object import CONFIG_HINT, ConfigObject
from ..files.small_files import DOWNLOAD_AGAIN

PREFIX = "model.visual."
# OpenAI's CLIP, which transformers' image processor normalises pixels by
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
_MOST_ELONGATED = 200  # width over height, or height over width


@dataclass(frozen=True, slots=True)
class Glm41Vision:
    """The tower of a Glm4vForConditionalGeneration. `hidden` is the decoder's width, `grid` the side of the square of
    learned positions, in patches. A patch is cut from `frames` frames; those of a still picture are equal."""

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

    @property
    def head_dim(self) -> int:
        """The width of a head."""
        return self.width // self.heads

    @property
    def exact_matrices(self) -> frozenset[str]:
        """The tensors of two axes that are no matrix of a product."""
        return frozenset({f"{PREFIX}embeddings.position_embedding.weight"})

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


def read_glm41_vision(vision: ConfigObject, hidden: int) -> Glm41Vision:
    """Return the tower in the `vision_config` of a config.json; `hidden` is the decoder's width. Raises
    CheckpointError."""
    vision.require("hidden_act", "silu")
    vision.require("in_channels", 3)
    vision.require("out_hidden_size", hidden)
    rope = vision.section("rope_parameters")
    rope.require("rope_type", "axial")
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
    )
    if tower.width % tower.heads or tower.head_dim % 4:
        raise CheckpointError(
            f"config.json: {tower.heads} heads do not divide the tower's {tower.width} into multiples of four",
            hint=CONFIG_HINT,
        )
    if tower.grid < 1:
        raise CheckpointError("config.json: the tower's image_size is less than its patch_size", hint=CONFIG_HINT)
    return tower


def read_picture_size(processor: Mapping[str, Any], tower: Glm41Vision) -> PictureSize:
    """Return the size of pictures from the settings of a checkpoint's image processor, {} for transformers' defaults.

    Raises CheckpointError for settings that prepare pixels otherwise than the published checkpoints do.
    """
    settings = ConfigObject(processor, "the image processor")
    settings.require("patch_size", tower.patch)
    settings.require("merge_size", tower.merge)
    settings.require("temporal_patch_size", tower.frames)
    settings.require("image_mean", list(PIXEL_MEAN))
    settings.require("image_std", list(PIXEL_STD))
    settings.require("resample", 3)  # bicubic
    for switch in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"):
        settings.require(switch, True)
    limits = settings.section("size")
    size = PictureSize(
        factor=tower.patch * tower.merge,
        frames=tower.frames,
        min_pixels=limits.integer("shortest_edge", 112 * 112),
        max_pixels=limits.integer("longest_edge", 28 * 28 * 15000),
    )
    if not size.frames * size.factor**2 <= size.min_pixels <= size.max_pixels:
        raise CheckpointError("the image processor's size has impossible limits", hint=DOWNLOAD_AGAIN)
    return size
