"""The matrices that a mixed recipe keeps in 8 bits: each one's sensitivity, and NNCF's choice by it.

Without data, NNCF's score of a matrix depends on nothing but the matrix. So it is measured one matrix at a time, and
the choice is the one NNCF makes on the whole decoder.
https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/weight-compression.html
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.tensors import CheckpointTensors

from ..graph import EMBEDDING, HEAD
from ..recipe import Recipe
from .nncf import sensitivity_score


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """NNCF's sensitivity score of one matrix; `nbytes` is its size in the checkpoint."""

    name: str
    weights: int
    nbytes: int
    score: float


def measure_sensitivities(checkpoint: CheckpointTensors, recipe: Recipe) -> Iterator[Sensitivity]:
    """Measure every matrix that the recipe could make int4, in the decoder's order."""
    for name in candidates(checkpoint.architecture, recipe):
        tensor = checkpoint.tensor(name)
        yield Sensitivity(name, prod(tensor.shape), tensor.nbytes, sensitivity_score(tensor))
        checkpoint.release()


def most_sensitive(found: Collection[Sensitivity], ratio: float) -> frozenset[str]:
    """Return the names of the matrices that become int8, so that at most `ratio` of all weights become int4.

    As in NNCF's MixedPrecisionCriterion: matrices become int4 in ascending order of score, up to the first that would
    exceed the ratio.
    """
    total, taken = sum(one.weights for one in found), 0
    remaining = sorted(found, key=lambda one: one.score)
    while remaining and (taken + remaining[0].weights) / total < ratio:
        taken += remaining.pop(0).weights
    return frozenset(one.name for one in remaining)


def presumed_sensitive(architecture: Architecture, recipe: Recipe) -> frozenset[str]:
    """Return as many of the largest matrices as can become int8: an upper bound, before any is measured."""
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
    """Yield the names of the decoder's matrices that the recipe could make int4."""
    for name, shape in architecture.shapes():
        if len(shape) == 2 and name not in (EMBEDDING, HEAD) and recipe.mode_and_group(shape[1])[0] == recipe.linear:
            yield name
