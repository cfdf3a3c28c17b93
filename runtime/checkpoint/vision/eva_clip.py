"""The image tower of glm-4v-9b, EVA2-CLIP-E, as config.json describes it.

Every picture is resized to one square, whatever its proportions. Sources: visual.py of glm-4v-9b, and vLLM's glm4v.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import CheckpointError
from ..config_object import CONFIG_HINT, ConfigObject

PREFIX = "transformer.vision."
# OpenAI's CLIP, by which tokenization_chatglm.py normalises pixels
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
MERGE = 2  # patches in the height and width of a token


@dataclass(frozen=True, slots=True)
class EvaClipVision:
    """The tower of a ChatGLMModel. `hidden` is the decoder's width, `adapter_ffn` that of the GLU between tower and
    decoder; pictures have `image_size` pixels in height and width. Features are divided by `scaling`."""

    layers: int
    width: int
    heads: int
    ffn: int
    hidden: int
    adapter_ffn: int
    image_size: int
    patch: int
    norm_eps: float
    scaling: float

    @property
    def head_dim(self) -> int:
        """The width of a head."""
        return self.width // self.heads

    @property
    def grid(self) -> int:
        """The patches in a picture's height and width."""
        return self.image_size // self.patch

    @property
    def tokens(self) -> int:
        """The tokens of a picture, with one before and one behind them that mark its begin and end."""
        return (self.grid // MERGE) ** 2 + 2

    @property
    def exact_matrices(self) -> frozenset[str]:
        """The tensors of two axes that are no matrix of a product."""
        return frozenset(f"{PREFIX}patch_embedding.{name}" for name in ("cls_embedding", "position_embedding.weight"))

    def layer_shapes(self, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and shape of each tensor of one layer."""
        prefix, width = f"{PREFIX}transformer.layers.{layer}.", self.width
        for name, rows, columns in (
            ("attention.query_key_value", 3 * width, width),
            ("attention.dense", width, width),
            ("mlp.fc1", self.ffn, width),
            ("mlp.fc2", width, self.ffn),
        ):
            yield f"{prefix}{name}.weight", (rows, columns)
            yield f"{prefix}{name}.bias", (rows,)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{prefix}{norm}.weight", (width,)
            yield f"{prefix}{norm}.bias", (width,)

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and shape of every tensor, in the tower's order."""
        width, hidden, patch = self.width, self.hidden, self.patch
        yield f"{PREFIX}patch_embedding.cls_embedding", (1, width)
        yield f"{PREFIX}patch_embedding.proj.weight", (width, 3, patch, patch)
        yield f"{PREFIX}patch_embedding.proj.bias", (width,)
        yield f"{PREFIX}patch_embedding.position_embedding.weight", (self.grid**2 + 1, width)
        for layer in range(self.layers):
            yield from self.layer_shapes(layer)
        yield f"{PREFIX}conv.weight", (hidden, width, MERGE, MERGE)
        yield f"{PREFIX}conv.bias", (hidden,)
        yield f"{PREFIX}linear_proj.linear_proj.weight", (hidden, hidden)
        yield f"{PREFIX}linear_proj.norm1.weight", (hidden,)
        yield f"{PREFIX}linear_proj.norm1.bias", (hidden,)
        yield f"{PREFIX}linear_proj.gate_proj.weight", (self.adapter_ffn, hidden)
        yield f"{PREFIX}linear_proj.dense_h_to_4h.weight", (self.adapter_ffn, hidden)
        yield f"{PREFIX}linear_proj.dense_4h_to_h.weight", (hidden, self.adapter_ffn)
        yield f"{PREFIX}boi", (1, 1, hidden)
        yield f"{PREFIX}eoi", (1, 1, hidden)


def read_eva_clip(vision: ConfigObject, hidden: int, adapter_ffn: int) -> EvaClipVision:
    """Return the tower in the `vision_config` of a config.json; `hidden` and `adapter_ffn` are the widths of the
    decoder. Raises CheckpointError."""
    vision.require("hidden_act", "gelu")
    vision.require("in_channels", 3)
    tower = EvaClipVision(
        layers=vision.integer("num_hidden_layers"),
        width=vision.integer("hidden_size"),
        heads=vision.integer("num_heads"),
        ffn=vision.integer("intermediate_size"),
        hidden=hidden,
        adapter_ffn=adapter_ffn,
        image_size=vision.integer("image_size"),
        patch=vision.integer("patch_size"),
        norm_eps=vision.number("layer_norm_eps", 0.0, 1.0),
        scaling=vision.number("scaling_factor", 1e-3, 1e6, default=1.0),
    )
    if tower.width % tower.heads:
        raise CheckpointError(
            f"config.json: {tower.heads} heads do not divide the tower's width of {tower.width}", hint=CONFIG_HINT
        )
    if tower.image_size % (MERGE * tower.patch):
        raise CheckpointError(
            f"config.json: image_size {tower.image_size} is no multiple of {MERGE} patches of {tower.patch} pixels",
            hint=CONFIG_HINT,
        )
    vision.require("num_positions", tower.grid**2 + 1)
    return tower
