"""The stages of EVA2-CLIP-E in numpy: the reference for a converted tower, with one matrix in memory at a time."""

import math

import numpy as np

from runtime.checkpoint.vision.eva_clip import MERGE, PIXEL_MEAN, PIXEL_STD, PREFIX, EvaClipVision

from .stage import Floats, Values

ADAPTER_EPS = 1e-5  # torch's default for LayerNorm, which the adapter has, whatever the config
_BLOCK = 2**20  # values of a GELU at a time


class EvaClipArithmetic:
    """The stages of a tower. `values` returns the checkpoint's tensors by name."""

    def __init__(self, vision: EvaClipVision) -> None:
        self.vision = vision

    def patches(self, pixels: Floats, values: Values) -> Floats:
        """Embed patches: (1,S,S,3) -> (1,1+P,D)."""
        mean, std = np.array(PIXEL_MEAN, np.float32), np.array(PIXEL_STD, np.float32)
        x = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        x = _convolve(x, values, "patch_embedding.proj", self.vision.patch)
        first = values(f"{PREFIX}patch_embedding.cls_embedding")[np.newaxis]
        positions = values(f"{PREFIX}patch_embedding.position_embedding.weight")[: self.vision.grid**2 + 1]
        return np.asarray(np.concatenate([first, x], 1) + positions, np.float32)

    def layer(self, layer: int, x: Floats, values: Values) -> Floats:
        """Apply one layer: (1,1+P,D) -> (1,1+P,D)."""
        prefix, eps = f"transformer.layers.{layer}.", self.vision.norm_eps
        x = x + _norm(self._attention(x, values, f"{prefix}attention."), values, f"{prefix}input_layernorm", eps)
        y = _linear(gelu(_linear(x, values, f"{prefix}mlp.fc1", bias=True)), values, f"{prefix}mlp.fc2", bias=True)
        return x + _norm(y, values, f"{prefix}post_attention_layernorm", eps)

    def _attention(self, x: Floats, values: Values, prefix: str) -> Floats:
        v = self.vision
        fused = _linear(x, values, f"{prefix}query_key_value", bias=True)[0]
        query, key, value = fused.reshape(-1, 3, v.heads, v.head_dim).transpose(1, 2, 0, 3)
        mixed = np.empty((len(fused), v.heads, v.head_dim), np.float32)
        for head in range(v.heads):  # one head's scores in memory at a time
            scores = query[head] @ key[head].T * np.float32(v.head_dim**-0.5)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed[:, head] = scores @ value[head] / scores.sum(-1, keepdims=True)
        return _linear(mixed.reshape(1, -1, v.width), values, f"{prefix}dense", bias=True)

    def merge(self, x: Floats, values: Values) -> Floats:
        """Merge patches to tokens: (1,1+P,D) -> (1,N,hidden)."""
        v = self.vision
        return _convolve(x[:, 1:].reshape(1, v.grid, v.grid, v.width), values, "conv", MERGE)

    def project(self, x: Floats, values: Values) -> Floats:
        """Apply the adapter's first matrix, norm and GELU."""
        return gelu(_norm(_linear(x, values, "linear_proj.linear_proj"), values, "linear_proj.norm1", ADAPTER_EPS))

    def feed_forward(self, x: Floats, values: Values) -> Floats:
        """Apply the adapter's SwiGLU."""
        gate = _linear(x, values, "linear_proj.gate_proj")
        with np.errstate(over="ignore"):  # exp of a large negative value: its sigmoid is 0
            gate = np.asarray(gate / (1 + np.exp(-gate)), np.float32)
        gate *= _linear(x, values, "linear_proj.dense_h_to_4h")
        return _linear(gate, values, "linear_proj.dense_4h_to_h")

    def add_ends(self, x: Floats, values: Values) -> Floats:
        """Add begin and end, and scale all."""
        ends = [values(f"{PREFIX}{name}") for name in ("boi", "eoi")]
        return np.asarray(np.concatenate([ends[0], x, ends[1]], 1) / self.vision.scaling, np.float32)


def _linear(x: Floats, values: Values, name: str, bias: bool = False) -> Floats:
    y = x @ values(f"{PREFIX}{name}.weight").T
    return y + values(f"{PREFIX}{name}.bias") if bias else y


def _norm(x: Floats, values: Values, name: str, eps: float) -> Floats:
    centred = x - x.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(eps))
    return np.asarray(y * values(f"{PREFIX}{name}.weight") + values(f"{PREFIX}{name}.bias"), np.float32)


def gelu(x: Floats) -> Floats:
    """Apply the exact GELU, x·Φ(x). numpy has no erf, so Python's is used, a block at a time."""
    flat, found = x.reshape(-1), np.empty(x.size, np.float32)
    for first in range(0, x.size, _BLOCK):
        part = flat[first : first + _BLOCK]
        erf = np.fromiter(map(math.erf, (part / math.sqrt(2)).tolist()), np.float64, len(part))
        found[first : first + len(part)] = part * (0.5 + 0.5 * erf)
    return found.reshape(x.shape)


def _convolve(x: Floats, values: Values, name: str, side: int) -> Floats:
    """Apply a convolution whose kernel is a square of `side`, as is its stride: (1,h,w,in) -> (1,tokens,out)."""
    kernel = values(f"{PREFIX}{name}.weight")  # (out,in,side,side)
    _, height, width, channels = x.shape
    squares = x.reshape(height // side, side, width // side, side, channels).transpose(0, 2, 4, 1, 3)
    rows = squares.reshape(1, -1, channels * side * side)
    return rows @ kernel.reshape(len(kernel), -1).T + values(f"{PREFIX}{name}.bias")
