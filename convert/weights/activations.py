"""What goes into each matrix while the checkpoint reads the calibration texts, and what NNCF makes of it.

The texts go through the uncompressed decoder a layer at a time, so that a layer, its inputs and outputs are in memory,
and no more. Each matrix is then compressed alone, as without data, but NNCF's methods see what it multiplies:

- scale estimation and GPTQ look at one matrix and its inputs, and get just these;
- AWQ moves part of the size of down_proj's inputs into its weights. In a decoder whose gate and up are one matrix, NNCF
  would insert a Multiply before down_proj to make up for that. The same factors go into the rows of `up` here, as NNCF
  does where `up` is a matrix of its own: the graph stays the one for which the plugins have their fusions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from openvino import Model, Node, PartialShape, Type
from openvino import opset13 as ops

from runtime.checkpoint.tensors import CheckpointTensors, Tensor
from runtime.system.native_effects import quiet_nncf

from ..check.reference import Floats, Stage, layer_alone, nothing, of_layer
from ..graph import Blocks
from ..recipe import Recipe
from .compress import EMBEDDING, options
from .nncf import Rows, import_nncf

SAMPLES = 128  # tokens whose inputs AWQ and scale estimation see
_HIGHEST = 0.25 * 65504  # of up's outputs, as in NNCF: GPUs compute in f16
_FEEDS = {"k_proj": "q_proj", "v_proj": "q_proj"}  # they read what q_proj reads


@dataclass(frozen=True, slots=True)
class Scaled:
    """A matrix whose rows and columns are multiplied by factors when they are read."""

    tensor: Tensor
    by_row: Floats
    by_column: Floats

    @property
    def name(self) -> str:
        return self.tensor.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    def rows(self, first: int, end: int) -> Tensor:
        data = self.tensor.rows(first, end).f32() * self.by_row[first:end, np.newaxis] * self.by_column
        return Tensor(self.name, data.shape, "f32", data)


class Activations:
    """Of a checkpoint and texts, as token ids. Matrices have to be asked for in the decoder's order."""

    def __init__(
        self, checkpoint: CheckpointTensors, recipe: Recipe, token_ids: Sequence[npt.NDArray[np.int64]]
    ) -> None:
        self.checkpoint, self.recipe = checkpoint, recipe
        embedding = checkpoint.tensor(EMBEDDING)
        self._states = [embedding.gather(ids).f32()[np.newaxis] for ids in token_ids]
        tokens = sum(len(ids) for ids in token_ids)
        few = np.random.default_rng(0).permutation(tokens)[:SAMPLES]
        self._chosen = np.arange(tokens) if recipe.gptq else np.sort(few)
        self._run = Stage(checkpoint.architecture, _watched)
        self._layer = -1
        self._inputs: Mapping[str, Floats] = {}  # (tokens, columns), by the matrix that reads them
        self._awq = np.ones(checkpoint.architecture.ffn, np.float32)

    def of(self, tensor: Tensor) -> tuple[Rows, dict[str, Any]]:
        """The matrix as it is to be compressed, and NNCF's options beside those for all."""
        layer, matrix = int(tensor.name.split(".")[2]), tensor.name.split(".")[-2]
        while self._layer < layer:
            self._next()
        inputs = self._inputs[_FEEDS.get(matrix, matrix)]
        ones, ffn = np.ones(tensor.shape[0], np.float32), self.checkpoint.architecture.ffn
        if not self.recipe.awq or matrix not in ("gate_up_proj", "down_proj"):
            return tensor, self._options(inputs)
        if matrix == "down_proj":
            return Scaled(tensor, ones, self._awq), self._options(inputs / self._awq)
        ones[ffn:] /= self._awq
        return Scaled(tensor, ones, np.ones(tensor.shape[1], np.float32)), self._options(inputs)

    def _next(self) -> None:
        """Reads the texts with the next layer."""
        a = self.checkpoint.architecture
        self._layer += 1
        names = (name for name, _ in a.layer_shapes(0))
        layer = self._run.ready({name: self.checkpoint.tensor(of_layer(name, self._layer)).decoded() for name in names})
        seen: list[list[Floats]] = [[] for _ in _WATCHED]
        first, chosen = 0, self._chosen
        for number, x in enumerate(self._states):
            self._states[number], _, _, *inputs = layer.run({"x": x} | nothing(a, [x.shape[1]]))
            here = chosen[(chosen >= first) & (chosen < first + x.shape[1])] - first
            for kept, values in zip(seen, inputs, strict=True):
                kept.append(values[0, here])
            first += x.shape[1]
        self._inputs = {matrix: np.concatenate(kept) for matrix, kept in zip(_WATCHED, seen, strict=True)}
        if self.recipe.awq:
            self._awq = self._factors()
        self.checkpoint.release()

    def _factors(self) -> Floats:
        """AWQ's: by which down_proj's columns are multiplied and its inputs divided, (ffn)."""
        nncf = import_nncf()
        a, prefix = self.checkpoint.architecture, f"model.layers.{self._layer}.mlp."
        inputs = self._inputs["down_proj"]
        x = ops.parameter(PartialShape([-1, a.ffn]), Type.f32)
        # NNCF looks for an activation before a MatMul; this one changes nothing.
        matrix = ops.constant(self.checkpoint.tensor(prefix + "down_proj.weight").f32())
        product = ops.matmul(ops.clamp(x, np.finfo(np.float32).min, np.finfo(np.float32).max), matrix, False, True)
        given = options(self.recipe) | {"ratio": 1.0, "all_layers": True, "awq": True} | _data(inputs)
        awq_params = nncf.AdvancedAWQParameters(subset_size=len(inputs))
        given["advanced_parameters"] = replace(given["advanced_parameters"], awq_params=awq_params)
        mode = nncf.CompressWeightsMode(self.recipe.linear)
        with quiet_nncf():
            model = nncf.compress_weights(Model([ops.result(product)], [x], "awq"), mode=mode, **given)
        found = 1 / _inserted(model, a.ffn)
        return np.maximum(found, self._least(prefix))

    def _least(self, prefix: str) -> Floats:
        """Factors with which up's outputs, divided by them, stay below what f16 can hold: (ffn). As NNCF reckons."""
        a = self.checkpoint.architecture
        up = self.checkpoint.tensor(prefix + "gate_up_proj.weight").rows(a.ffn, 2 * a.ffn)
        step = max(1, 2**24 // a.hidden)
        means = [np.abs(up.rows(first, first + step).f32()).mean(1) for first in range(0, a.ffn, step)]
        largest = float(np.abs(self._inputs["gate_up_proj"]).max())
        return np.asarray(np.concatenate(means) * largest * a.hidden / _HIGHEST, dtype=np.float32)

    def _options(self, inputs: Floats) -> dict[str, Any]:
        if self.recipe.gptq:
            return {"gptq": True, "dataset": import_nncf().Dataset([inputs]), "scale_estimation": self.recipe.scale}
        if not self.recipe.scale:
            return {}
        nncf = import_nncf()
        scale = nncf.AdvancedScaleEstimationParameters(subset_size=len(inputs))
        advanced = replace(options(self.recipe)["advanced_parameters"], scale_estimation_params=scale)
        return {"scale_estimation": True, "advanced_parameters": advanced} | _data(inputs)


def _data(inputs: Floats) -> dict[str, Any]:
    """NNCF takes the mean of each sample; so each is one token."""
    return {"dataset": import_nncf().Dataset(list(inputs[:, np.newaxis])), "subset_size": len(inputs)}


def _inserted(model: Model, size: int) -> Floats:
    """The factors of the Multiply that AWQ put into the graph; ones where it put none."""
    for op in model.get_ops():
        if op.get_type_name() == "Multiply" and "awq_mul" in op.get_friendly_name():
            (factors,) = (v.get_node() for v in op.input_values() if v.get_node().get_type_name() == "Constant")
            return np.asarray(factors.data, dtype=np.float32).reshape(size)
    return np.ones(size, np.float32)


_WATCHED = ("q_proj", "o_proj", "gate_up_proj", "down_proj")


class _Watching(Blocks):
    """Remembers what goes into each matrix."""

    def __init__(self, blocks: Blocks) -> None:
        super().__init__(blocks.architecture, blocks.weight)
        self.seen: dict[str, Node] = {}

    def linear(self, x: Node, name: str, bias: bool = False) -> Node:
        self.seen[name.rsplit(".", 1)[-1]] = x
        return super().linear(x, name, bias)


def _watched(blocks: Blocks, weights: Sequence[Node]) -> Model:
    """A layer, whose results are followed by the inputs of its matrices."""
    watching = _Watching(blocks)
    layer = layer_alone(watching, weights)
    seen = [ops.result(watching.seen[name]) for name in _WATCHED]
    return Model([*layer.get_results(), *seen], layer.get_parameters(), "watched")
