"""The image tower of GLM-4.1V and GLM-4.6V-Flash as an OpenVINO graph, for pictures of any size.

A still picture is a video of two equal frames for this tower. Patches are in rows, while transformers has them in
squares of two by two: attention does not see the difference, and the merged tokens are in the same order.

Shapes in comments: h, w the patches in a picture's height and width, P = h·w, D the tower's width, N the tokens.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import openvino as ov
from openvino import Node, PartialShape, Type
from openvino import opset13 as ops

from runtime.checkpoint.vision.glm4_1v import PIXEL_MEAN, PIXEL_STD, PREFIX, Glm41Vision

from ..graph import Weight, named_matmul
from .glm4_1v_arithmetic import CUBIC, MERGER_EPS, Glm41Arithmetic, inverse_frequencies
from .stage import TowerStage


def build_glm41_tower(vision: Glm41Vision, weight: Weight) -> ov.Model:
    """Build the tower. Input: `pixels` (1,H,W,3), u8, RGB, of a size that `PictureSize` gives. Output: `features`
    (1,N,hidden), f32, in rows. `weight` yields the checkpoint's tensors by name."""
    pixels = ops.parameter(PartialShape([1, -1, -1, 3]), Type.u8, name="pixels")
    pixels.output(0).set_names({"pixels"})
    size = ops.shape_of(pixels)
    height, width = (ops.divide(ops.gather(size, _i64(axis), _i64_scalar(0)), _i64(vision.patch)) for axis in (1, 2))
    x: Node = pixels
    for stage in _stages(vision, _TowerGraph(vision, height, width), Glm41Arithmetic(vision, 0, 0)):
        x = stage.build(x, weight)
    x.output(0).set_names({"features"})
    return ov.Model([ops.result(x)], [pixels], "glm4_1v_image")


def glm41_stages(vision: Glm41Vision, rows: int, columns: int) -> Iterator[TowerStage]:
    """Yield the tower's stages in turn, for a picture of so many patches in height and width."""
    graph = _TowerGraph(vision, _i64(rows), _i64(columns))
    return _stages(vision, graph, Glm41Arithmetic(vision, rows, columns))


def _stages(vision: Glm41Vision, graph: "_TowerGraph", arithmetic: "Glm41Arithmetic") -> Iterator[TowerStage]:
    yield TowerStage("patches", graph.patches, arithmetic.patches)
    for layer in range(vision.layers):
        yield TowerStage(f"layer {layer}", partial(graph.layer, layer), partial(arithmetic.layer, layer), True)
    yield TowerStage("convolution", graph.merge, arithmetic.merge)
    yield TowerStage("projection", graph.project, arithmetic.project)
    yield TowerStage("SwiGLU", graph.feed_forward, arithmetic.feed_forward)


class _RotaryTable(NamedTuple):
    """cos and sin of the angles of each patch, each (1,P,1,head_dim)."""

    cos: Node
    sin: Node


class _TowerGraph:
    """The graph of each stage, for a picture of `height` and `width` patches, vectors of one element."""

    def __init__(self, vision: Glm41Vision, height: Node, width: Node) -> None:
        self.vision = vision
        self._height, self._width = height, width
        self._rope = self._rotary_table()

    def patches(self, pixels: Node, weight: Weight) -> Node:
        """Normalise pixels, embed patches and add their learned positions: (1,H,W,3) -> (1,P,D)."""
        v = self.vision
        x = ops.divide(ops.convert(pixels, "f32"), _f32(255.0))
        x = ops.divide(ops.subtract(x, _f32(PIXEL_MEAN)), _f32(PIXEL_STD))
        # The kernel spans equal frames: a channel more for each.
        channels = np.repeat(np.arange(3, dtype=np.int64), v.frames)
        x = ops.gather(ops.transpose(x, _i64(0, 3, 1, 2)), ops.constant(channels), _i64_scalar(1))
        kernel = weight(f"{PREFIX}patch_embed.proj.weight")
        kernel = ops.reshape(kernel, _i64(v.width, 3 * v.frames, v.patch, v.patch), False)
        x = _rows(_convolution(x, kernel, weight, "patch_embed.proj", v.patch), v.width)
        return ops.add(self._norm(x, weight, "post_conv_layernorm"), self._learned_positions(weight))

    def _learned_positions(self, weight: Weight) -> Node:
        """Interpolate the square of learned positions to the picture's patches: (1,P,D).

        Bicubic interpolation is separable, so it is a matrix for the rows and one for the columns.
        """
        grid, dim = self.vision.grid, self.vision.width
        table = ops.reshape(weight(f"{PREFIX}embeddings.position_embedding.weight"), _i64(grid, grid * dim), False)
        rows = ops.matmul(_interpolation(self._height, grid), table, False, False)  # (h, grid·D)
        rows = ops.reshape(rows, _i64(-1, grid, dim), False)
        patches = ops.matmul(_interpolation(self._width, grid), rows, False, False)  # (h,w,D)
        return ops.reshape(patches, _i64(1, -1, dim), False)

    def _rotary_table(self) -> _RotaryTable:
        """Return the rotation of each patch: the first half of a head's pairs turns by its row, the other by its
        column."""
        half = self.vision.head_dim // 2
        frequencies = ops.constant(inverse_frequencies(self.vision))
        size = ops.concat([self._height, self._width, _i64(half // 2)], 0)
        rows, columns = (
            ops.broadcast(ops.multiply(ops.convert(ops.unsqueeze(_count(end), axes), "f32"), frequencies), size)
            for end, axes in ((self._height, _i64(1, 2)), (self._width, _i64(0, 2)))
        )
        angles = ops.concat([rows, columns, rows, columns], 2)
        angles = ops.reshape(angles, _i64(1, -1, 1, 2 * half), False)
        return _RotaryTable(ops.cos(angles), ops.sin(angles))

    def layer(self, layer: int, x: Node, weight: Weight) -> Node:
        """Apply one layer: (1,P,D) -> (1,P,D)."""
        prefix = f"blocks.{layer}."
        x = ops.add(x, self._attention(self._norm(x, weight, prefix + "norm1"), weight, prefix + "attn."))
        return ops.add(x, _feed_forward(self._norm(x, weight, prefix + "norm2"), weight, prefix + "mlp."))

    def merge(self, x: Node, weight: Weight) -> Node:
        """Merge patches into tokens of the decoder's width: (1,P,D) -> (1,N,hidden)."""
        v = self.vision
        x = ops.transpose(self._norm(x, weight, "post_layernorm"), _i64(0, 2, 1))
        x = ops.reshape(x, ops.concat([_i64(1, v.width), self._height, self._width], 0), False)
        kernel = weight(f"{PREFIX}downsample.weight")
        return _rows(_convolution(x, kernel, weight, "downsample", v.merge), v.hidden)

    def project(self, x: Node, weight: Weight) -> Node:
        """Apply the merger's first matrix, LayerNorm and GELU: (1,N,hidden) -> (1,N,hidden)."""
        norm = f"{PREFIX}merger.post_projection_norm"
        y = ops.mvn(_linear(x, weight, "merger.proj"), _i64(-1), True, MERGER_EPS, "inside_sqrt")
        return ops.gelu(ops.add(ops.multiply(y, weight(f"{norm}.weight")), weight(f"{norm}.bias")), "erf")

    def feed_forward(self, x: Node, weight: Weight) -> Node:
        """Apply the merger's SwiGLU: (1,N,hidden) -> (1,N,hidden)."""
        return _feed_forward(x, weight, "merger.")

    def _norm(self, x: Node, weight: Weight, name: str) -> Node:
        """Apply RMSNorm over the last axis."""
        variance = ops.reduce_mean(ops.power(x, _f32(2.0)), _i64(-1), keep_dims=True)
        root = ops.sqrt(ops.add(variance, _f32(self.vision.norm_eps)))
        return ops.multiply(weight(f"{PREFIX}{name}.weight"), ops.multiply(x, ops.divide(_f32(1.0), root)))

    def _attention(self, x: Node, weight: Weight, prefix: str) -> Node:
        """Apply attention of every patch to every patch: (1,P,D) -> (1,P,D)."""
        v = self.vision
        fused = _linear(x, weight, prefix + "qkv", v.qkv_bias)
        fused = ops.reshape(fused, _i64(1, -1, 3 * v.heads, v.head_dim), False)
        query, key, value = ops.split(fused, _i64_scalar(2), 3).outputs()
        turned = _rotate(query, self._rope), _rotate(key, self._rope), value
        query, key, value = (ops.transpose(part, _i64(0, 2, 1, 3)) for part in turned)
        mixed = ops.scaled_dot_product_attention(query, key, value, causal=False)
        rows = ops.reshape(ops.transpose(mixed, _i64(0, 2, 1, 3)), _i64(1, -1, v.width), False)
        return _linear(rows, weight, prefix + "proj")


def _linear(x: Node, weight: Weight, name: str, bias: bool = False) -> Node:
    y = named_matmul(x, weight(f"{PREFIX}{name}.weight"), PREFIX + name)
    return ops.add(y, weight(f"{PREFIX}{name}.bias")) if bias else y


def _feed_forward(x: Node, weight: Weight, prefix: str) -> Node:
    """Apply SwiGLU."""
    gate = ops.swish(_linear(x, weight, prefix + "gate_proj"))
    return _linear(ops.multiply(gate, _linear(x, weight, prefix + "up_proj")), weight, prefix + "down_proj")


def _convolution(x: Node, kernel: Node, weight: Weight, name: str, stride: int) -> Node:
    y = ops.convolution(x, kernel, [stride] * 2, [0, 0], [0, 0], [1, 1])
    return ops.add(y, ops.reshape(weight(f"{PREFIX}{name}.bias"), _i64(1, -1, 1, 1), False))


def _rows(x: Node, width: int) -> Node:
    """(1,width,h,w) -> (1,h·w,width)"""
    return ops.transpose(ops.reshape(x, _i64(1, width, -1), False), _i64(0, 2, 1))


def _rotate(x: Node, rope: _RotaryTable) -> Node:
    """Rotate pairs of dimensions that are half a head apart: (1,P,heads,head_dim) -> the same shape."""
    first, second = ops.split(x, _i64_scalar(3), 2).outputs()
    quarter_turned = ops.concat([ops.multiply(second, _f32(-1.0)), first], 3)
    return ops.add(ops.multiply(x, rope.cos), ops.multiply(quarter_turned, rope.sin))


def _interpolation(length: Node, grid: int) -> Node:
    """Return the matrix (length,grid) that interpolates `grid` values to `length` ones, as torch's bicubic grid_sample
    does without aligned corners: places beyond the border have the border's value.

    Place i lies at ((2i + 1)·grid - length) / (2·length). Its whole part is computed in integers, which no inference
    precision rounds.
    """
    doubled = ops.multiply(length, _i64(2))
    odd = ops.add(ops.multiply(_count(length), _i64(2)), _i64(1))
    numerator = ops.add(ops.subtract(ops.multiply(odd, _i64(grid)), length), doubled)  # one place on: never negative
    whole = ops.divide(numerator, doubled)
    remainder = ops.subtract(numerator, ops.multiply(whole, doubled))
    t = ops.divide(ops.convert(remainder, "f32"), ops.convert(doubled, "f32"))
    columns = ops.constant(np.arange(grid, dtype=np.int64).reshape(1, -1))
    matrix: Node | None = None
    for tap, tap_weight in enumerate(_cubic_weights(t)):
        place = ops.clamp(ops.add(whole, _i64(tap - 2)), 0, grid - 1)
        hit = ops.convert(ops.equal(ops.unsqueeze(place, _i64(1)), columns), "f32")
        term = ops.multiply(ops.unsqueeze(tap_weight, _i64(1)), hit)
        matrix = term if matrix is None else ops.add(matrix, term)
    assert matrix is not None
    return matrix


def _cubic_weights(t: Node) -> list[Node]:
    """Return the weights of the four neighbours of a place that lies `t` after the second."""

    def polynomial(x: Node, *coefficients: float) -> Node:
        y = _f32(coefficients[0])
        for coefficient in coefficients[1:]:
            y = ops.add(ops.multiply(y, x), _f32(coefficient))
        return y

    a, one = CUBIC, _f32(1.0)
    near, far = (a + 2, -(a + 3), 0.0, 1.0), (a, -5 * a, 8 * a, -4 * a)
    rest = ops.subtract(one, t)
    return [
        polynomial(ops.add(t, one), *far),
        polynomial(t, *near),
        polynomial(rest, *near),
        polynomial(ops.add(rest, one), *far),
    ]


def _count(end: Node) -> Node:
    """Return 0, 1, … up to, not including, `end`, a vector of one element."""
    return ops.range(_i64_scalar(0), ops.squeeze(end, _i64(0)), _i64_scalar(1), "i64")


def _i64(*values: int) -> Node:
    return ops.constant(np.array(values, dtype=np.int64))


def _i64_scalar(value: int) -> Node:
    return ops.constant(np.int64(value))


def _f32(values: float | tuple[float, ...]) -> Node:
    return ops.constant(np.array(values, dtype=np.float32))
