"""The stages of GLM-4.1V's tower in numpy: the reference for a converted tower, with one matrix in memory at a time."""

import numpy as np

from runtime.checkpoint.vision.glm4_1v import PIXEL_MEAN, PIXEL_STD, PREFIX, Glm41Vision

from .eva_clip_arithmetic import gelu
from .stage import Floats, Values

MERGER_EPS = 1e-5  # torch's default for LayerNorm, which transformers uses here whatever the config
CUBIC = -0.75  # the parameter of torch's bicubic interpolation


def inverse_frequencies(vision: Glm41Vision) -> Floats:
    """Return the frequencies by which rows and columns turn the pairs of a head: (head_dim / 4)."""
    half = vision.head_dim // 2
    exponents = np.arange(0, half, 2, dtype=np.float32) / np.float32(half)
    return np.asarray(1.0 / np.float32(vision.rope_theta) ** exponents, np.float32)


class Glm41Arithmetic:
    """The stages of a tower for a picture of so many patches in height and width. `values` returns the checkpoint's
    tensors by name."""

    def __init__(self, vision: Glm41Vision, rows: int, columns: int) -> None:
        self.vision = vision
        self._rows, self._columns = rows, columns

    def patches(self, pixels: Floats, values: Values) -> Floats:
        """Embed patches and add their learned positions: (1,H,W,3) -> (1,P,D)."""
        v = self.vision
        mean, std = np.array(PIXEL_MEAN, np.float32), np.array(PIXEL_STD, np.float32)
        x = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        kernel = values(f"{PREFIX}patch_embed.proj.weight").reshape(v.width, 3, v.frames, v.patch, v.patch).sum(2)
        x = self._convolve(x, kernel, values(f"{PREFIX}patch_embed.proj.bias"), v.patch)
        table = values(f"{PREFIX}embeddings.position_embedding.weight").reshape(v.grid, v.grid, v.width)
        rows, columns = _interpolation(self._rows, v.grid), _interpolation(self._columns, v.grid)
        positions = np.einsum("ya,xb,abd->yxd", rows, columns, table).reshape(1, -1, v.width)
        return np.asarray(self._norm(x, values, "post_conv_layernorm") + positions, np.float32)

    def layer(self, layer: int, x: Floats, values: Values) -> Floats:
        """Apply one layer: (1,P,D) -> (1,P,D)."""
        prefix = f"blocks.{layer}."
        x = x + self._attention(self._norm(x, values, f"{prefix}norm1"), values, f"{prefix}attn.")
        return x + _feed_forward(self._norm(x, values, f"{prefix}norm2"), values, f"{prefix}mlp.")

    def _attention(self, x: Floats, values: Values, prefix: str) -> Floats:
        v = self.vision
        fused = _linear(x, values, f"{prefix}qkv")[0]
        if v.qkv_bias:
            fused = fused + values(f"{PREFIX}{prefix}qkv.bias")
        query, key, value = fused.reshape(-1, 3, v.heads, v.head_dim).transpose(1, 2, 0, 3)
        query, key = self._rotated(query), self._rotated(key)
        mixed = np.empty((len(fused), v.heads, v.head_dim), np.float32)
        for head in range(v.heads):  # one head's scores in memory at a time
            scores = query[head] @ key[head].T * np.float32(v.head_dim**-0.5)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed[:, head] = scores @ value[head] / scores.sum(-1, keepdims=True)
        return _linear(mixed.reshape(1, -1, v.width), values, f"{prefix}proj")

    def _rotated(self, x: Floats) -> Floats:
        """Rotate pairs of dimensions that are half a head apart, by row and column: (heads,P,head_dim)."""
        frequencies = inverse_frequencies(self.vision)
        rows, columns = np.divmod(np.arange(self._rows * self._columns, dtype=np.float32), np.float32(self._columns))
        angles = np.concatenate([np.outer(rows, frequencies), np.outer(columns, frequencies)], 1)
        first, second = np.split(x, 2, -1)
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

    def merge(self, x: Floats, values: Values) -> Floats:
        """Merge patches to tokens: (1,P,D) -> (1,N,hidden)."""
        v = self.vision
        x = self._norm(x, values, "post_layernorm").reshape(1, self._rows, self._columns, v.width)
        kernel = values(f"{PREFIX}downsample.weight").reshape(v.hidden, v.width, v.merge, v.merge)
        return self._convolve(x, kernel, values(f"{PREFIX}downsample.bias"), v.merge)

    def project(self, x: Floats, values: Values) -> Floats:
        """Apply the merger's first matrix, LayerNorm and GELU."""
        norm = f"{PREFIX}merger.post_projection_norm"
        y = _linear(x, values, "merger.proj")
        centred = y - y.mean(-1, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(MERGER_EPS))
        return gelu(np.asarray(y * values(f"{norm}.weight") + values(f"{norm}.bias"), np.float32))

    def feed_forward(self, x: Floats, values: Values) -> Floats:
        """Apply the merger's SwiGLU."""
        return _feed_forward(x, values, "merger.")

    def _norm(self, x: Floats, values: Values, name: str) -> Floats:
        root = np.sqrt((x**2).mean(-1, keepdims=True) + np.float32(self.vision.norm_eps))
        return np.asarray(x / root * values(f"{PREFIX}{name}.weight"), np.float32)

    @staticmethod
    def _convolve(x: Floats, kernel: Floats, bias: Floats, side: int) -> Floats:
        """Apply a convolution whose kernel is a square, as is its stride: (1,h,w,in) -> (1,tokens,out)."""
        _, height, width, channels = x.shape
        squares = x.reshape(height // side, side, width // side, side, channels).transpose(0, 2, 4, 1, 3)
        return squares.reshape(1, -1, channels * side * side) @ kernel.reshape(len(kernel), -1).T + bias


def _linear(x: Floats, values: Values, name: str) -> Floats:
    return x @ values(f"{PREFIX}{name}.weight").T


def _feed_forward(x: Floats, values: Values, prefix: str) -> Floats:
    """Apply SwiGLU."""
    gate = _linear(x, values, f"{prefix}gate_proj")
    with np.errstate(over="ignore"):  # exp of a large negative value: its sigmoid is 0
        gate = np.asarray(gate / (1 + np.exp(-gate)), np.float32)
    return _linear(gate * _linear(x, values, f"{prefix}up_proj"), values, f"{prefix}down_proj")


def _interpolation(length: int, grid: int) -> Floats:
    """Return the matrix (length,grid) of bicubic interpolation, whose border goes on beyond it."""
    matrix = np.zeros((length, grid), np.float32)
    for row in range(length):
        place = (row + 0.5) / length * grid - 0.5
        for tap in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            distance = abs(place - tap)
            a, x = CUBIC, distance
            near = ((a + 2) * x - (a + 3)) * x * x + 1
            far = ((x - 5) * x + 8) * x * a - 4 * a
            matrix[row, min(max(tap, 0), grid - 1)] += near if x <= 1 else far
    return matrix
