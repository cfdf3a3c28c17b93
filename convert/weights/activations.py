"""The inputs of each matrix while the checkpoint reads the calibration texts, for the data-aware methods.

The texts go through the uncompressed decoder one layer at a time, so that only one layer, its inputs and its outputs
are in memory. Each matrix is then compressed by itself, as without data, but NNCF's methods see its inputs:

- scale estimation and GPTQ need one matrix and its inputs, and get just these;
- AWQ scales the columns of down_proj up and its inputs down. In a decoder whose gate and up are one matrix, NNCF would
  insert a Multiply before down_proj for that. Here the factors go into the rows of `up`, as NNCF does where `up` is a
  matrix of its own: the graph keeps the form that the plugins fuse.

Our own GPTQ in blocks needs the Hessian of the inputs alone, which is added up as the texts are read. It fits the head,
too, whose inputs are the states after the final norm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from openvino import Model, Node
from openvino import opset13 as ops

from runtime.checkpoint.tensors import CheckpointTensors, Tensor

from ..check.reference import (
    CompiledBlock,
    Floats,
    empty_inputs,
    layer_model,
    layer_tensor_name,
    norm_model,
    pack,
)
from ..graph import EMBEDDING, HEAD, DecoderBlocks
from ..recipe import Recipe
from .block_gptq import BlockHessian
from .nncf import MatrixRows, awq_factors, calibration_options

SAMPLE_TOKENS = 128  # tokens whose inputs AWQ and scale estimation read
_MAX_UP_OUTPUT = 0.25 * 65504  # limit of up's outputs, as in NNCF: GPUs compute in f16
_NORM = "model.norm.weight"
_RECORDED = ("q_proj", "o_proj", "gate_up_proj", "down_proj")  # matrices whose inputs are recorded
_SHARED_INPUTS = {"k_proj": "q_proj", "v_proj": "q_proj"}  # q, k and v have the same input


@dataclass(frozen=True, slots=True)
class ScaledMatrix:
    """A matrix whose rows and columns are multiplied by factors as they are read."""

    tensor: Tensor
    by_row: Floats
    by_column: Floats

    @property
    def name(self) -> str:
        """The tensor's canonical name."""
        return self.tensor.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.tensor.shape

    def rows(self, first: int, end: int) -> Tensor:
        """Return the scaled rows from `first` up to, not including, `end`, in f32."""
        data = self.tensor.rows(first, end).f32() * self.by_row[first:end, np.newaxis] * self.by_column
        return Tensor(self.name, data.shape, "f32", data)


class Activations:
    """The inputs of a checkpoint's matrices, for texts as token ids. Prepare matrices in the decoder's order."""

    def __init__(
        self, checkpoint: CheckpointTensors, recipe: Recipe, token_ids: Sequence[npt.NDArray[np.int64]]
    ) -> None:
        self.checkpoint, self.recipe = checkpoint, recipe
        embedding = checkpoint.tensor(EMBEDDING)
        self._texts = pack(token_ids)
        self._states = [embedding.gather(row.ids).f32()[np.newaxis] for row in self._texts]
        tokens = sum(len(ids) for ids in token_ids)
        sample = np.random.default_rng(0).permutation(tokens)[:SAMPLE_TOKENS]
        self._sampled = np.arange(tokens) if recipe.gptq else np.sort(sample)
        self._run = CompiledBlock(checkpoint.architecture, _recording_layer)
        self._layer = -1
        self._inputs: Mapping[str, Floats] = {}  # (tokens, columns), by the matrix that reads them
        self._hessians: dict[str, BlockHessian] = {}  # by the matrix
        self._awq = np.ones(checkpoint.architecture.ffn, np.float32)

    def prepare(self, tensor: Tensor) -> tuple[MatrixRows, dict[str, Any]]:
        """Return the matrix to compress, scaled where AWQ moved factors into it, and NNCF's options for its inputs."""
        matrix = self._run_until(tensor.name)
        inputs = self._inputs[_SHARED_INPUTS.get(matrix, matrix)]
        ones, ffn = np.ones(tensor.shape[0], np.float32), self.checkpoint.architecture.ffn
        if not self.recipe.awq or matrix not in ("gate_up_proj", "down_proj"):
            return tensor, calibration_options(self.recipe, inputs)
        if matrix == "down_proj":
            return ScaledMatrix(tensor, ones, self._awq), calibration_options(self.recipe, inputs / self._awq)
        ones[ffn:] /= self._awq
        by_column = np.ones(tensor.shape[1], np.float32)
        return ScaledMatrix(tensor, ones, by_column), calibration_options(self.recipe, inputs)

    def hessian(self, name: str) -> BlockHessian:
        """Return the Hessian of the inputs of the matrix of this name."""
        if name != HEAD:
            matrix = self._run_until(name)
            return self._hessians[_SHARED_INPUTS.get(matrix, matrix)]
        a = self.checkpoint.architecture
        self._run_until(f"model.layers.{a.layers - 1}.mlp.down_proj.weight")
        norm = CompiledBlock(a, norm_model).bind({_NORM: self.checkpoint.tensor(_NORM)})
        hessian = BlockHessian(a.hidden)
        for x in self._states:
            hessian.add(norm.run({"x": x})[0][0])
        return hessian

    def _run_until(self, name: str) -> str:
        """Run the texts through the layers up to that of a matrix; return which one of the layer's it is."""
        layer, matrix = int(name.split(".")[2]), name.split(".")[-2]
        while self._layer < layer:
            self._run_next_layer()
        return matrix

    def _run_next_layer(self) -> None:
        """Run the texts through the next layer and record the inputs of its matrices."""
        a = self.checkpoint.architecture
        self._layer += 1
        names = (name for name, _ in a.layer_shapes(0))
        layer = self._run.bind(
            {name: self.checkpoint.tensor(layer_tensor_name(name, self._layer)).decoded() for name in names}
        )
        recorded: list[list[Floats]] = [[] for _ in _RECORDED]
        first, sampled = 0, self._sampled
        self._hessians = {}
        for number, (x, text) in enumerate(zip(self._states, self._texts, strict=True)):
            self._states[number], _, _, *inputs = layer.run({"x": x} | empty_inputs(a, text.lengths))
            if self.recipe.block_gptq:
                self._add_to_hessians(inputs)
                continue
            rows = sampled[(sampled >= first) & (sampled < first + x.shape[1])] - first
            for column, values in zip(recorded, inputs, strict=True):
                column.append(values[0, rows])
            first += x.shape[1]
        if not self.recipe.block_gptq:
            self._inputs = {name: np.concatenate(column) for name, column in zip(_RECORDED, recorded, strict=True)}
        if self.recipe.awq:
            self._awq = self._awq_factors()
        self.checkpoint.release()

    def _add_to_hessians(self, inputs: Sequence[Floats]) -> None:
        """Add the inputs of a layer's matrices: (1, tokens, columns) each."""
        for name, values in zip(_RECORDED, inputs, strict=True):
            self._hessians.setdefault(name, BlockHessian(values.shape[-1])).add(values[0])

    def _awq_factors(self) -> Floats:
        """Return the factors of down_proj's columns, by which its inputs are divided: (ffn)."""
        prefix = f"model.layers.{self._layer}.mlp."
        matrix = self.checkpoint.tensor(prefix + "down_proj.weight").f32()
        return np.maximum(awq_factors(self.recipe, matrix, self._inputs["down_proj"]), self._min_factors(prefix))

    def _min_factors(self, prefix: str) -> Floats:
        """Return the smallest factors that keep up's outputs, divided by them, within f16, as NNCF estimates: (ffn)."""
        a = self.checkpoint.architecture
        up = self.checkpoint.tensor(prefix + "gate_up_proj.weight").rows(a.ffn, 2 * a.ffn)
        step = max(1, 2**24 // a.hidden)
        means = [np.abs(up.rows(first, first + step).f32()).mean(1) for first in range(0, a.ffn, step)]
        largest = float(np.abs(self._inputs["gate_up_proj"]).max())
        return np.asarray(np.concatenate(means) * largest * a.hidden / _MAX_UP_OUTPUT, dtype=np.float32)


class _InputRecorder(DecoderBlocks):
    """Decoder blocks that record the input of each matrix."""

    def __init__(self, blocks: DecoderBlocks) -> None:
        super().__init__(blocks.architecture, blocks.weight)
        self.inputs: dict[str, Node] = {}

    def linear(self, x: Node, name: str, bias: bool = False) -> Node:
        """Record the input, then multiply: (…,in) -> (…,out)."""
        self.inputs[name.rsplit(".", 1)[-1]] = x
        return super().linear(x, name, bias)


def _recording_layer(blocks: DecoderBlocks, weights: Sequence[Node]) -> Model:
    """Return a layer's model whose further results are the inputs of its matrices."""
    recorder = _InputRecorder(blocks)
    layer = layer_model(recorder, weights)
    inputs = [ops.result(recorder.inputs[name]) for name in _RECORDED]
    return Model([*layer.get_results(), *inputs], layer.get_parameters(), "recording layer")
