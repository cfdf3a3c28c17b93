"""What the checkpoint itself answers: logits of the uncompressed model, which is never in memory as a whole.

One layer's graph is compiled once, with its weights as inputs, and run for every layer in turn: in memory are the layer
at hand in f32, the hidden states and the logits. The graph's parts are the decoder's own; there is no second
implementation that could be wrong in its own way. All arithmetic is in f32.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import Node, PartialShape, Type
from openvino import opset13 as ops

from runtime.checkpoint import Architecture, Checkpoint, Dtype, Tensor

from .graph import ELEMENT_TYPES, Blocks, as_openvino, causal_mask, indices, rotary_table, size

Floats = npt.NDArray[np.float32]
Weights = Mapping[str, Tensor]

_VOCABULARY_ROWS = 16384  # of the head at a time: 268 MB in f32 at a width of 4,096


def logits(checkpoint: Checkpoint, token_ids: Sequence[npt.NDArray[Any]]) -> list[Floats]:
    """For every text, T token ids, the logits after each of its tokens: (T,vocab). Texts do not see one another.

    Needs memory for a layer in f32 and, what soon is more, vocab * 4 bytes a token for what it returns.
    """
    a = checkpoint.architecture
    embedding = checkpoint.tensor("model.embed_tokens.weight")
    states = [embedding.at(ids).f32()[np.newaxis] for ids in token_ids]
    run_layer = Stage(a, layer_alone)
    for layer in range(a.layers):
        weights = {name: checkpoint.tensor(of_layer(name, layer)).decoded() for name, _ in a.layer_shapes(0)}
        states = [run_layer(x, weights) for x in states]
        checkpoint.release()
    found = [np.empty((x.shape[1], a.vocab), np.float32) for x in states]
    run_head = Stage(a, Blocks.head)
    norm, head = (
        checkpoint.tensor("model.norm.weight"),
        "model.embed_tokens.weight" if a.tied_embeddings else "lm_head.weight",
    )
    for first in range(0, a.vocab, _VOCABULARY_ROWS):
        rows = slice(first, min(first + _VOCABULARY_ROWS, a.vocab))
        weights = {"model.norm.weight": norm, head: checkpoint.tensor(head).rows(rows.start, rows.stop).decoded()}
        for x, table in zip(states, found, strict=True):
            table[:, rows] = run_head(x, weights)[0]
        checkpoint.release()
    return found


class Stage:
    """A part of the decoder, (1,T,hidden) -> (1,T,…), or several outputs, whose weights are inputs.

    It is compiled at the first call, and again only for weights in other dtypes.
    """

    def __init__(self, architecture: Architecture, part: Callable[[Blocks, Node], Node | list[Node]]) -> None:
        self.architecture = architecture
        self.part = part
        self._requests: dict[tuple[Dtype, ...], ov.InferRequest] = {}

    def __call__(self, x: Floats, weights: Weights) -> Floats:
        return self.all(x, weights)[0]

    def all(self, x: Floats, weights: Weights) -> list[Floats]:
        """Every output."""
        dtypes = tuple(tensor.dtype for tensor in weights.values())
        if dtypes not in self._requests:
            self._requests[dtypes] = self._compile(weights).create_infer_request()
        inputs = {name: as_openvino(tensor) for name, tensor in weights.items()}
        results = self._requests[dtypes].infer({"x": x, **inputs}, share_inputs=True)
        return [np.asarray(result, dtype=np.float32) for result in results.values()]

    def _compile(self, weights: Weights) -> ov.CompiledModel:
        x = input_node("x", PartialShape([1, -1, self.architecture.hidden]), Type.f32)
        inputs = {
            # The head comes in blocks of rows, the last one shorter.
            name: input_node(name, PartialShape([-1, *tensor.shape[1:]]), ELEMENT_TYPES[tensor.dtype])
            for name, tensor in weights.items()
        }
        blocks = Blocks(self.architecture, lambda name: ops.convert(inputs[name], "f32"))
        parts = self.part(blocks, x)
        results = [ops.result(part) for part in (parts if isinstance(parts, list) else [parts])]
        model = ov.Model(results, [x, *inputs.values()], "reference")
        return ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


class _NoCache:
    """All tokens are new: there is nothing to remember."""

    def remember(self, x: Node, layer: int, kind: str) -> Node:
        return x


def layer_alone(blocks: Blocks, x: Node) -> Node:
    """Layer 0 over a whole text that has nothing before it. Every layer has its shape."""
    length = size(x, 1)
    positions = ops.unsqueeze(indices(length), np.array([0], dtype=np.int64))
    rope = rotary_table(blocks.architecture, positions)
    mask = causal_mask(ops.broadcast(np.array([[1]], dtype=np.int64), ops.shape_of(positions)), length)
    return blocks.layer(x, 0, rope, mask, _NoCache())


def of_layer(name: str, layer: int) -> str:
    """The name of a tensor of layer 0, in another layer."""
    return name.replace("model.layers.0.", f"model.layers.{layer}.")


def input_node(name: str, shape: PartialShape, element: Type) -> Node:
    node = ops.parameter(shape, element, name=name)
    node.output(0).set_names({name})
    return node
