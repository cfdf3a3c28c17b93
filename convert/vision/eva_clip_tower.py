"""The image tower of glm-4v-9b (EVA2-CLIP-E, a convolution, a GLU) as an OpenVINO graph.

Shapes in comments: P patches, D the tower's width, N the image tokens without the two at the ends.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import openvino as ov
from openvino import Node, PartialShape, Type
from openvino import opset13 as ops

from runtime.checkpoint.vision.eva_clip import MERGE, PIXEL_MEAN, PIXEL_STD, PREFIX, EvaClipVision

from ..graph import Weight, named_matmul
from .eva_clip_arithmetic import ADAPTER_EPS, EvaClipArithmetic
from .stage import TowerStage


def build_eva_clip_tower(vision: EvaClipVision, weight: Weight) -> ov.Model:
    """Build the tower. Input: `pixels` (1,S,S,3), u8, RGB. Output: `features` (1,N+2,hidden), f32: the begin of the
    image, its tokens in rows, and its end."""
    size = vision.image_size
    pixels = ops.parameter(PartialShape([1, size, size, 3]), Type.u8, name="pixels")
    pixels.output(0).set_names({"pixels"})
    x: Node = pixels
    for stage in eva_clip_stages(vision):
        x = stage.build(x, weight)
    x.output(0).set_names({"features"})
    return ov.Model([ops.result(x)], [pixels], "glm4v_image")


def eva_clip_stages(vision: EvaClipVision) -> Iterator[TowerStage]:
    """Yield the tower's stages in turn."""
    graph, arithmetic = _TowerGraph(vision), EvaClipArithmetic(vision)
    yield TowerStage("patches", graph.patches, arithmetic.patches)
    for layer in range(vision.layers):
        yield TowerStage(f"layer {layer}", partial(graph.layer, layer), partial(arithmetic.layer, layer), True)
    yield TowerStage("convolution", graph.merge, arithmetic.merge)
    yield TowerStage("projection", graph.project, arithmetic.project)
    yield TowerStage("GLU", graph.feed_forward, arithmetic.feed_forward)
    yield TowerStage("ends", graph.add_ends, arithmetic.add_ends)


class _TowerGraph:
    """The graph of each stage. `weight` yields the checkpoint's tensors by name."""

    def __init__(self, vision: EvaClipVision) -> None:
        self.vision = vision

    def patches(self, pixels: Node, weight: Weight) -> Node:
        """Normalise pixels, embed patches and add learned positions: (1,S,S,3) -> (1,1+P,D), the class token first."""
        width = self.vision.width
        x = ops.divide(ops.convert(pixels, "f32"), _f32(255.0))
        x = ops.divide(ops.subtract(x, _f32(PIXEL_MEAN)), _f32(PIXEL_STD))
        x = _convolution(ops.transpose(x, _i64(0, 3, 1, 2)), weight, "patch_embedding.proj", self.vision.patch)
        x = _rows(x, width)
        first = ops.reshape(weight(f"{PREFIX}patch_embedding.cls_embedding"), _i64(1, 1, width), False)
        positions = weight(f"{PREFIX}patch_embedding.position_embedding.weight")
        if positions.get_output_shape(0)[0] > (used := self.vision.grid**2 + 1):  # a picture smaller than the tower's
            positions = ops.slice(positions, _i64(0), _i64(used), _i64(1), _i64(0))
        return ops.add(ops.concat([first, x], 1), ops.unsqueeze(positions, _i64(0)))

    def layer(self, layer: int, x: Node, weight: Weight) -> Node:
        """Apply one layer, whose norms stand behind attention and MLP: (1,1+P,D) -> (1,1+P,D)."""
        prefix, eps = f"transformer.layers.{layer}.", self.vision.norm_eps
        x = ops.add(
            x, _norm(self._attention(x, weight, f"{prefix}attention."), weight, f"{prefix}input_layernorm", eps)
        )
        y = ops.gelu(_linear(x, weight, f"{prefix}mlp.fc1", bias=True), "erf")
        y = _linear(y, weight, f"{prefix}mlp.fc2", bias=True)
        return ops.add(x, _norm(y, weight, f"{prefix}post_attention_layernorm", eps))

    def _attention(self, x: Node, weight: Weight, prefix: str) -> Node:
        """Apply attention of every patch to every patch."""
        v = self.vision
        fused = _linear(x, weight, f"{prefix}query_key_value", bias=True)
        fused = ops.reshape(fused, _i64(1, -1, 3 * v.heads, v.head_dim), False)
        heads = ops.split(fused, _i64_scalar(2), 3).outputs()
        query, key, value = (ops.transpose(part, _i64(0, 2, 1, 3)) for part in heads)
        mixed = ops.scaled_dot_product_attention(query, key, value, causal=False)
        rows = ops.reshape(ops.transpose(mixed, _i64(0, 2, 1, 3)), _i64(1, -1, v.width), False)
        return _linear(rows, weight, f"{prefix}dense", bias=True)

    def merge(self, x: Node, weight: Weight) -> Node:
        """Drop the class token, and merge patches to tokens: (1,1+P,D) -> (1,N,hidden)."""
        v = self.vision
        x = ops.slice(x, _i64(1), _i64(2**31 - 1), _i64(1), _i64(1))
        x = ops.reshape(ops.transpose(x, _i64(0, 2, 1)), _i64(1, v.width, v.grid, v.grid), False)
        return _rows(_convolution(x, weight, "conv", MERGE), v.hidden)

    def project(self, x: Node, weight: Weight) -> Node:
        """Apply the adapter's first matrix, norm and GELU: (1,N,hidden) -> (1,N,hidden)."""
        x = _linear(x, weight, "linear_proj.linear_proj")
        return ops.gelu(_norm(x, weight, "linear_proj.norm1", ADAPTER_EPS), "erf")

    def feed_forward(self, x: Node, weight: Weight) -> Node:
        """Apply the adapter's SwiGLU: (1,N,hidden) -> (1,N,hidden)."""
        gate = ops.swish(_linear(x, weight, "linear_proj.gate_proj"))
        up = _linear(x, weight, "linear_proj.dense_h_to_4h")
        return _linear(ops.multiply(gate, up), weight, "linear_proj.dense_4h_to_h")

    def add_ends(self, x: Node, weight: Weight) -> Node:
        """Add begin and end, and scale all as the decoder reads them: (1,N,hidden) -> (1,N+2,hidden)."""
        x = ops.concat([weight(f"{PREFIX}boi"), x, weight(f"{PREFIX}eoi")], 1)
        return ops.divide(x, _f32(self.vision.scaling))


def _rows(x: Node, width: int) -> Node:
    """(1,width,h,w) -> (1,h·w,width)"""
    return ops.transpose(ops.reshape(x, _i64(1, width, -1), False), _i64(0, 2, 1))


def _norm(x: Node, weight: Weight, name: str, eps: float) -> Node:
    """Apply LayerNorm over the last axis."""
    y = ops.mvn(x, _i64(-1), True, eps, "inside_sqrt")
    return ops.add(ops.multiply(y, weight(f"{PREFIX}{name}.weight")), weight(f"{PREFIX}{name}.bias"))


def _linear(x: Node, weight: Weight, name: str, bias: bool = False) -> Node:
    y = named_matmul(x, weight(f"{PREFIX}{name}.weight"), PREFIX + name)
    return ops.add(y, weight(f"{PREFIX}{name}.bias")) if bias else y


def _convolution(x: Node, weight: Weight, name: str, stride: int) -> Node:
    y = ops.convolution(x, weight(f"{PREFIX}{name}.weight"), [stride] * 2, [0, 0], [0, 0], [1, 1])
    return ops.add(y, ops.reshape(weight(f"{PREFIX}{name}.bias"), _i64(1, -1, 1, 1), False))


def _f32(values: float | tuple[float, ...]) -> Node:
    return ops.constant(np.array(values, dtype=np.float32))


def _i64(*values: int) -> Node:
    return ops.constant(np.array(values, dtype=np.int64))


def _i64_scalar(value: int) -> Node:
    return ops.constant(np.int64(value))
