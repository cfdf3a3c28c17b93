"""Which matrices a mixed recipe leaves in 8 bits: the sensitivity of each, and NNCF's choice by them.

Without data, NNCF's measure looks at nothing but the matrix (1 over the worst row's mean squared error in int8). So it
is found one matrix at a time, and the choice is that of NNCF on the whole decoder.
https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/weight-compression.html
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.tensors import CheckpointTensors, Tensor

from ..graph import as_openvino
from ..recipe import Recipe
from .compress import EMBEDDING, HEAD
from .nncf import BLOCK, import_nncf, row_blocks


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Of the matrix `name` of so many weights. `nbytes` is its size in the checkpoint."""

    name: str
    weights: int
    nbytes: int
    score: float


def measure_sensitivities(checkpoint: CheckpointTensors, recipe: Recipe) -> Iterator[Sensitivity]:
    """Those of all matrices that the recipe could make int4, in the decoder's order. Reads the whole checkpoint."""
    for name in candidates(checkpoint.architecture, recipe):
        tensor = checkpoint.tensor(name)
        yield Sensitivity(name, prod(tensor.shape), tensor.nbytes, _score(tensor))
        checkpoint.release()


def most_sensitive(found: Collection[Sensitivity], ratio: float) -> frozenset[str]:
    """The names of those that become int8, so that less than `ratio` of all weights become int4.

    As NNCF's MixedPrecisionCriterion does: in ascending order of their scores, up to the first that is too much.
    """
    total, taken = sum(one.weights for one in found), 0
    left = sorted(found, key=lambda one: one.score)
    while left and (taken + left[0].weights) / total < ratio:
        taken += left.pop(0).weights
    return frozenset(one.name for one in left)


def presumed_sensitive(architecture: Architecture, recipe: Recipe) -> frozenset[str]:
    """As many as can be `sensitive`, before any is known: for an estimate that will do."""
    if recipe.ratio == 1.0:
        return frozenset()
    shapes = dict(architecture.shapes())
    sizes = {name: prod(shapes[name]) for name in candidates(architecture, recipe)}
    room = (1 - recipe.ratio) * sum(sizes.values()) + max(sizes.values(), default=0)
    taken: list[str] = []
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        if room > 0:
            taken.append(name)
            room -= size
    return frozenset(taken)


def candidates(architecture: Architecture, recipe: Recipe) -> Iterator[str]:
    """The decoder's matrices that the recipe could make int4."""
    for name, shape in architecture.shapes():
        if len(shape) == 2 and name not in (EMBEDDING, HEAD) and recipe.mode_and_group(shape[1])[0] == recipe.linear:
            yield name


def _score(tensor: Tensor) -> float:
    """NNCF's: its DataFreeCriterion. The worst row is that of the worst block of rows."""
    import_nncf()
    from nncf.quantization.algorithms.weight_compression.config import WeightCompressionConfig
    from nncf.quantization.algorithms.weight_compression.weight_lowering import get_integer_quantization_error
    from nncf.tensor import Tensor as Values
    from nncf.tensor import functions

    error, eps = 0.0, 0.0
    for rows in row_blocks(tensor, BLOCK):
        block = Values(as_openvino(rows))
        found = get_integer_quantization_error(block, (1,), WeightCompressionConfig(), reduction="max_mean")
        error, eps = max(error, found), functions.finfo(block).eps
    return float(1 / (error + eps))
