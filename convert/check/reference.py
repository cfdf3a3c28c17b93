"""The checkpoint's own logits: those of the uncompressed model, which is never in memory as a whole.

One layer's graph is compiled once, with its weights as inputs, and run for every layer in turn: in memory are one layer
in f32, the hidden states and the requested logits. The graph's blocks are the decoder's own, not a second
implementation. All arithmetic is in f32.

A text goes through a layer in chunks, its keys and values cached between them, so that the memory of attention grows
with the length of the text, not with its square.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import Node, PartialShape, Type
from openvino import opset13 as ops

from runtime.checkpoint.tensors import Architecture, CheckpointTensors, Dtype, Tensor

from ..graph import (
    ELEMENT_TYPES,
    EMBEDDING,
    MASKED,
    DecoderBlocks,
    as_openvino,
    axis_length,
    causal_mask,
    rotary_table,
    text_positions,
)

Floats = npt.NDArray[np.float32]
Weights = Mapping[str, Tensor]
Head = Callable[[Floats], Floats]  # states (n,hidden) -> logits (n,vocab)

CHUNK = 512  # tokens that go through a layer at a time
SCORES = 2**29  # bytes of attention scores at a time, f32 for each head, new token and token before
POSITIONS = 256  # whose logits are computed at a time: 155 MB with GLM-4's vocabulary
# All in f32: bf16, dynamic quantization of activations to int8 and a u8 cache would each be a larger difference than
# that of the weights.
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
VOCABULARY_ROWS = 16384  # of the head at a time: 268 MB in f32 at a width of 4,096


class UncompressedWeights(Protocol):
    """The weights of a decoder, one tensor at a time: an open checkpoint, for example."""

    @property
    def architecture(self) -> Architecture:
        """The decoder's shape."""
        ...

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of that canonical name."""
        ...

    def release(self) -> None:
        """Return the memory of tensors that were read."""
        ...


def logits(checkpoint: CheckpointTensors, token_ids: Sequence[npt.NDArray[Any]]) -> list[Floats]:
    """Return the logits for texts of T token ids each: (T,vocab). Texts do not attend to one another.

    Needs the memory of a layer in f32, and vocab * 4 bytes a token for the result.
    """
    return run_head(checkpoint_head(checkpoint), hidden_states(checkpoint, token_ids))


def hidden_states(checkpoint: UncompressedWeights, token_ids: Sequence[npt.NDArray[Any]]) -> list[Floats]:
    """Return the head's inputs for texts of T token ids each: (T,hidden), normed."""
    a = checkpoint.architecture
    embedding = checkpoint.tensor(EMBEDDING)
    rows = pack(token_ids)
    found = [embedding.gather(row.ids).f32() for row in rows]
    block = CompiledBlock(a, layer_model)
    for layer in range(a.layers):
        weights = {name: checkpoint.tensor(layer_tensor_name(name, layer)).decoded() for name, _ in a.layer_shapes(0)}
        for x, row in zip(found, rows, strict=True):
            run_layer(block.bind(weights), a, x, row.lengths)
        checkpoint.release()
    norm = CompiledBlock(a, norm_model).bind({"model.norm.weight": checkpoint.tensor("model.norm.weight")})
    for x in found:
        run_in_chunks(norm, x)
    return unpack(found, rows)


def checkpoint_head(checkpoint: UncompressedWeights) -> Head:
    """Return the checkpoint's head, from hidden states to logits; its matrix is decoded a block of rows at a time."""
    a = checkpoint.architecture
    matrix = checkpoint.tensor(a.head_name)
    stage = CompiledBlock(a, head_model)

    def make(x: Floats) -> Floats:
        found = np.empty((len(x), a.vocab), np.float32)
        for first in range(0, a.vocab, VOCABULARY_ROWS):
            rows = slice(first, min(first + VOCABULARY_ROWS, a.vocab))
            block = stage.bind({a.head_name: matrix.rows(rows.start, rows.stop).decoded()})
            found[:, rows] = block.run({"x": x[np.newaxis]})[0][0]
            checkpoint.release()
        return found

    return make


class BoundBlock:
    """A compiled part of the decoder, bound to its weights."""

    def __init__(self, request: ov.InferRequest, inputs: Mapping[str, ov.Tensor] = {}) -> None:
        self.request = request
        self._inputs = inputs

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> list[Floats]:
        """Run the block; return its results in order."""
        found = self.request.infer({**inputs, **self._inputs}, share_inputs=True)
        return [np.array(found[i], dtype=np.float32) for i in range(len(found))]


@dataclass(frozen=True, slots=True)
class PackedTexts:
    """Texts packed into one sequence: their token ids, and the length of each text."""

    ids: npt.NDArray[Any]
    lengths: tuple[int, ...]


def pack(token_ids: Sequence[npt.NDArray[Any]]) -> list[PackedTexts]:
    """Pack texts into sequences of at most CHUNK tokens, or of one text: a layer reads its weights once for all tokens
    of a pass."""
    rows: list[list[npt.NDArray[Any]]] = []
    for ids in token_ids:
        if rows and sum(map(len, rows[-1])) + len(ids) <= CHUNK:
            rows[-1].append(ids)
        else:
            rows.append([ids])
    return [PackedTexts(np.concatenate(row), tuple(map(len, row))) for row in rows]


def unpack(found: Sequence[Floats], rows: Sequence[PackedTexts]) -> list[Floats]:
    """Split the results of packed sequences, (T,…) each, into those of their texts."""
    return [text for x, row in zip(found, rows, strict=True) for text in np.split(x, np.cumsum(row.lengths)[:-1])]


def run_head(make: Head, found: Sequence[Floats]) -> list[Floats]:
    """Apply the head to all texts' hidden states in one call; return the logits of each."""
    return np.split(make(np.concatenate(found)), np.cumsum([len(x) for x in found])[:-1])


def run_layer(layer: BoundBlock, architecture: Architecture, x: Floats, lengths: Sequence[int] = ()) -> None:
    """Run a layer in place over the states (T,hidden) of one text, or of packed texts."""
    a = architecture
    past = empty_inputs(a, lengths or (len(x),))
    text, position = past.pop("text"), past.pop("position")
    step = max(1, min(CHUNK, SCORES // (4 * a.heads * len(x))))
    for first in range(0, len(x), step):
        here = slice(first, first + step)
        new = {"x": x[np.newaxis, here], "position": position[:, here], "text": text[:, : first + step]}
        y, *cache = layer.run(new | past)
        past = dict(zip(past, cache, strict=True))
        x[here] = y[0]


def empty_inputs(architecture: Architecture, lengths: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
    """Return a layer's other inputs at the start of packed texts: an empty cache, and each token's text number and
    position."""
    a = architecture
    empty = np.zeros((1, a.kv_heads, 0, a.head_dim), np.float32)
    text = np.repeat(np.arange(len(lengths)), lengths)[np.newaxis]
    position = np.concatenate([np.arange(length) for length in lengths])[np.newaxis]
    return {"past_key": empty, "past_value": empty, "text": text, "position": position}


def run_in_chunks(part: BoundBlock, x: Floats) -> None:
    """Run a block that treats each token by itself over the states, in place and in chunks."""
    for first in range(0, len(x), CHUNK):
        x[first : first + CHUNK] = part.run({"x": x[np.newaxis, first : first + CHUNK]})[0][0]


class CompiledBlock:
    """A part of the decoder whose weights are inputs. It is compiled when weights are first bound, and again only for
    weights of other dtypes."""

    def __init__(self, architecture: Architecture, part: Callable[[DecoderBlocks, Sequence[Node]], ov.Model]) -> None:
        self.architecture = architecture
        self.build = part
        self._requests: dict[tuple[Dtype, ...], ov.InferRequest] = {}

    def bind(self, weights: Weights) -> BoundBlock:
        """Return the compiled block with these weights."""
        dtypes = tuple(tensor.dtype for tensor in weights.values())
        if dtypes not in self._requests:
            self._requests[dtypes] = self._compile(weights)
        return BoundBlock(self._requests[dtypes], {name: as_openvino(tensor) for name, tensor in weights.items()})

    def _compile(self, weights: Weights) -> ov.InferRequest:
        inputs = {
            # The head comes in blocks of rows, the last one shorter.
            name: named_input(name, PartialShape([-1, *tensor.shape[1:]]), ELEMENT_TYPES[tensor.dtype])
            for name, tensor in weights.items()
        }
        blocks = DecoderBlocks(self.architecture, lambda name: ops.convert(inputs[name], "f32"))
        return compile_on_cpu(self.build(blocks, list(inputs.values())))


def compile_on_cpu(model: ov.Model, properties: Mapping[str, str] = EXACT) -> ov.InferRequest:
    """Compile a model for the CPU; return a request."""
    return ov.Core().compile_model(model, "CPU", properties).create_infer_request()


class _CacheInputs:
    """A layer's KV cache as inputs and results of its graph. States would do the same, but OpenVINO 2026.4 does not
    free all memory of a graph with states, and a converted model has one graph a layer."""

    def __init__(self, architecture: Architecture) -> None:
        shape = PartialShape([1, architecture.kv_heads, -1, architecture.head_dim])
        self.inputs = {kind: named_input(f"past_{kind}", shape, Type.f32) for kind in ("key", "value")}
        self.results: list[Node] = []

    def append(self, x: Node, layer: int, kind: str) -> Node:
        everything = ops.concat([self.inputs[kind], x], 2)
        self.results.append(ops.result(everything))
        return everything


def layer_model(blocks: DecoderBlocks, weights: Sequence[Node] = ()) -> ov.Model:
    """Return the model of layer 0, whose shape every layer has.

    Inputs: x (1,T,hidden), the tokens' positions (1,T), keys and values of the P tokens before them
    (1,kv_heads,P,head_dim), and each token's text number (1,P+T). Results: (1,T,hidden), and all keys and values
    (1,kv_heads,P+T,head_dim). Texts do not attend to one another.
    """
    a = blocks.architecture
    x, past = _states_input(a), _CacheInputs(a)
    position, text = (named_input(name, PartialShape([1, -1]), Type.i64) for name in ("position", "text"))
    length, before = axis_length(x, 1), axis_length(past.inputs["key"], 2)
    mask = causal_mask(ops.broadcast(np.array([[1]], np.int64), ops.shape_of(text)), length)
    one = np.array([1], np.int64)
    new = ops.slice(text, before, ops.add(before, length), one, one)
    other = ops.not_equal(ops.unsqueeze(new, np.int64(2)), ops.unsqueeze(text, one))  # (1,T,P+T)
    mask = ops.select(ops.unsqueeze(other, one), np.float32(MASKED), mask)
    y = blocks.layer(x, 0, rotary_table(a, text_positions(a, position)), mask, past)
    inputs = [x, *past.inputs.values(), position, text, *weights]
    return ov.Model([ops.result(y), *past.results], inputs, "layer")


def norm_model(blocks: DecoderBlocks, weights: Sequence[Node] = ()) -> ov.Model:
    """Apply the final RMSNorm: (1,T,hidden) -> the head's input, (1,T,hidden)."""
    x = _states_input(blocks.architecture)
    return ov.Model([ops.result(blocks.norm(x, "model.norm"))], [x, *weights], "norm")


def head_model(blocks: DecoderBlocks, weights: Sequence[Node] = ()) -> ov.Model:
    """Apply the head to normed states: (1,T,hidden) -> a logit for each row of its matrix, (1,T,vocab)."""
    x = _states_input(blocks.architecture)
    return ov.Model([ops.result(blocks.lm_head(x))], [x, *weights], "head")


def layer_tensor_name(name: str, layer: int) -> str:
    """Return the name that a tensor of layer 0 has in another layer."""
    return name.replace("model.layers.0.", f"model.layers.{layer}.")


def _states_input(architecture: Architecture) -> Node:
    return named_input("x", PartialShape([1, -1, architecture.hidden]), Type.f32)


def named_input(name: str, shape: PartialShape, element: Type) -> Node:
    """Return a graph input whose tensor has the same name."""
    node = ops.parameter(shape, element, name=name)
    node.output(0).set_names({name})
    return node
