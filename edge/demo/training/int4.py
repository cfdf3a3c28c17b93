"""Int4 quantization-aware training: weights rounded as NNCF rounds them, with a straight-through gradient."""

import torch
from torch import Tensor, nn

GROUP = 128


def fake_quantize(weight: Tensor, symmetric: bool) -> Tensor:
    """Return the weight rounded to int4 in groups of 128 columns, as NNCF's int4_sym or int4_asym."""
    groups = weight.reshape(weight.shape[0], -1, GROUP)
    if symmetric:
        low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
        peak = torch.where(high.abs() > low.abs(), high, low)
        scale = torch.where(peak == 0, torch.ones_like(peak), peak / -8)
        return ((groups / scale).round().clamp(-8, 7) * scale).reshape(weight.shape)
    low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / 15).clamp(min=1e-8)
    zero = (-low / scale).round()
    return (((groups / scale + zero).round().clamp(0, 15) - zero) * scale).reshape(weight.shape)


class FakeInt4:
    """A context in which linear layers have int4 weights, while gradients update the full ones (straight-through)."""

    def __init__(self, weights: list[nn.Parameter], symmetric: bool) -> None:
        self.weights, self.symmetric = weights, symmetric

    def __enter__(self) -> None:
        self.full = [weight.data for weight in self.weights]
        for weight in self.weights:
            weight.data = fake_quantize(weight.data, self.symmetric)

    def __exit__(self, *_: object) -> None:
        for weight, full in zip(self.weights, self.full, strict=True):
            weight.data = full
