"""The GLM-4 decoder as an OpenVINO graph, written operation by operation.

It needs no torch, and keeps RoPE's frequencies in f32. It has the form that OpenVINO's transformations recognise, so
that every pipeline of GenAI runs it (paged attention, the stateful one, the NPU's static one): four named inputs, a key
and a value state a layer, ScaledDotProductAttention with an explicit mask, and norms and RoPE in forms that are fused.

Shapes in comments: B batch, T new tokens, S cached and new tokens.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import Node, PartialShape, Type
from openvino import opset13 as ops
from openvino.op import Constant
from openvino.op.util import Variable, VariableInfo

from runtime.checkpoint.tensors import Architecture, Dtype, Tensor

Weight = Callable[[str], Node]  # canonical name -> node that yields the tensor in f32
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ELEMENT_TYPES: dict[Dtype, Type] = {"bf16": Type.bf16, "f16": Type.f16, "f32": Type.f32}
_SLICE_END = 2**31 - 1  # as the end of a slice
# The lowest f16, so that no precision turns the mask into -inf: the softmax of a row of -inf is NaN.
MASKED = -65504.0


def build_decoder(architecture: Architecture, weight: Weight) -> ov.Model:
    """Build the whole decoder, stateful.

    Inputs: input_ids (B,T), attention_mask (B,S; 0 for padding on the left, else 1) and position_ids (B,T), all i64;
    beam_idx (B, i32), by which the cache's batch is reordered. Output: logits (B,T,vocab) in f32.
    """
    ids = dynamic_input("input_ids", Type.i64, rank=2)
    attention_mask = dynamic_input("attention_mask", Type.i64, rank=2)
    positions = dynamic_input("position_ids", Type.i64, rank=2)
    beam = dynamic_input("beam_idx", Type.i32, rank=1)
    blocks = DecoderBlocks(architecture, weight)
    cache = StatefulCache(architecture, batch=axis_length(ids, 0), beam=beam)
    rope = rotary_table(architecture, positions)
    mask = causal_mask(attention_mask, new_tokens=axis_length(ids, 1))
    x = blocks.embedding(ids)
    for layer in range(architecture.layers):
        x = blocks.layer(x, layer, rope, mask, cache)
    logits = blocks.head(x)
    logits.output(0).set_names({"logits"})
    model = ov.Model([ops.result(logits)], cache.sinks, [ids, attention_mask, positions, beam], "glm4")
    # GPUs compute in f16, which GLM-4's activations overflow (its answer is then "!!!!"); they divide them by this.
    model.set_rt_info("8.0", ["runtime_options", "ACTIVATIONS_SCALE_FACTOR"])
    return model


def decoder_inputs(
    model: ov.Model | ov.CompiledModel, ids: npt.NDArray[Any], past: int = 0
) -> dict[str, npt.NDArray[Any]]:
    """Return a decoder's inputs for the next token ids of a text, after `past` tokens of it. Inputs that the model does
    not have are left out: older exports have no position_ids, a graph without states no beam_idx."""
    end = past + len(ids)
    inputs: dict[str, npt.NDArray[Any]] = {
        "input_ids": ids[np.newaxis].astype(np.int64),
        "attention_mask": np.ones((1, end), np.int64),
        "position_ids": np.arange(past, end, dtype=np.int64)[np.newaxis],
        "beam_idx": np.zeros(1, np.int32),
    }
    names = {name for port in model.inputs for name in port.get_names()}
    return {name: value for name, value in inputs.items() if name in names}


class TensorSource(Protocol):
    """Tensors by name: an open checkpoint, for example."""

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of that canonical name."""
        ...


def uncompressed_weights(checkpoint: TensorSource) -> Weight:
    """Return the checkpoint's weights as nodes, uncompressed. Matrices of mapped files are not copied: the
    checkpoint must stay open for as long as a model made from them, or anything compiled from it, is in use."""

    def weight(name: str) -> Node:
        tensor = checkpoint.tensor(name)
        if len(tensor.shape) == 1:  # norms and biases: small, and worth their full precision
            node = Constant(tensor.f32())
            node.set_friendly_name(name)
            return node
        node = Constant(as_openvino(tensor), shared_memory=tensor.mappable)
        node.set_friendly_name(name)
        return node if tensor.dtype == "f32" else ops.convert(node, "f32")

    return weight


def as_openvino(tensor: Tensor) -> ov.Tensor:
    """Return the tensor's memory as an OpenVINO tensor, which keeps it alive. It is copied only if it is not
    aligned, as after a header of odd length."""
    data = np.require(tensor.data, requirements=["C", "A"])
    return ov.Tensor(data, ov.Shape(tensor.shape), ELEMENT_TYPES[tensor.dtype])


class RotaryTable(NamedTuple):
    """cos and sin of the rotation angles, each (B,T,1,rotary_dim); every angle twice, for a pair of neighbours."""

    cos: Node
    sin: Node


class KVStore(Protocol):
    """The cache of a layer's keys and values."""

    def append(self, x: Node, layer: int, kind: str) -> Node:
        """Append keys or values: (B,kv_heads,T,head_dim) -> all of them, (B,kv_heads,S,head_dim)."""
        ...


class DecoderBlocks:
    """The building blocks of a decoder with an architecture and its weights."""

    def __init__(self, architecture: Architecture, weight: Weight) -> None:
        self.architecture = architecture
        self.weight = weight

    def embedding(self, ids: Node) -> Node:
        """Look up token ids: (B,T) -> (B,T,hidden)."""
        return ops.gather(self.weight(EMBEDDING), ids, _i32(0))

    def head(self, x: Node) -> Node:
        """Apply the final norm and the head: (B,T,hidden) -> logits (B,T,vocab)."""
        return self.lm_head(self.norm(x, "model.norm"))

    def lm_head(self, x: Node) -> Node:
        """Project normed states to the vocabulary: (B,T,hidden) -> logits (B,T,vocab).

        Tied embeddings get a constant of their own over the same memory, as in other exports.
        """
        return named_matmul(x, self.weight(self.architecture.head_name), "lm_head")

    def layer(self, x: Node, layer: int, rope: RotaryTable, mask: Node, cache: KVStore) -> Node:
        """Apply one decoder layer: (B,T,hidden) -> (B,T,hidden)."""
        prefix = f"model.layers.{layer}."
        attended = self.attention(self.norm(x, prefix + "input_layernorm"), layer, rope, mask, cache)
        x = ops.add(x, self.post_norm(attended, prefix + "post_self_attn_layernorm"))
        projected = self.feed_forward(self.norm(x, prefix + "post_attention_layernorm"), prefix)
        return ops.add(x, self.post_norm(projected, prefix + "post_mlp_layernorm"))

    def post_norm(self, x: Node, name: str) -> Node:
        """Apply the norm behind a block, where the architecture has sandwich norms."""
        return self.norm(x, name) if self.architecture.sandwich_norms else x

    def norm(self, x: Node, name: str) -> Node:
        """Apply RMSNorm over the last axis."""
        variance = ops.reduce_mean(ops.power(x, _f32(2.0)), _i64(-1), keep_dims=True)
        root = ops.sqrt(ops.add(variance, _f32(self.architecture.norm_eps)))
        return ops.multiply(self.weight(name + ".weight"), ops.multiply(x, ops.divide(_f32(1.0), root)))

    def linear(self, x: Node, name: str, bias: bool = False) -> Node:
        """Multiply by a weight and add its bias: (…,in) -> (…,out)."""
        y = named_matmul(x, self.weight(name + ".weight"), name)
        return ops.add(y, self.weight(name + ".bias")) if bias else y

    def feed_forward(self, x: Node, prefix: str) -> Node:
        """Apply SwiGLU, gate and up in one matrix: (B,T,hidden) -> (B,T,hidden)."""
        gate, up = ops.split(self.linear(x, prefix + "mlp.gate_up_proj"), _i64_scalar(-1), 2).outputs()
        return self.linear(ops.multiply(up, ops.swish(gate)), prefix + "mlp.down_proj")

    def attention(self, x: Node, layer: int, rope: RotaryTable, mask: Node, cache: KVStore) -> Node:
        """Apply self-attention: (B,T,hidden) -> (B,T,hidden)."""
        a, prefix = self.architecture, f"model.layers.{layer}.self_attn."
        query = self.apply_rope(self.split_heads(x, prefix + "q_proj", a.heads), rope, a.heads)
        key = self.apply_rope(self.split_heads(x, prefix + "k_proj", a.kv_heads), rope, a.kv_heads)
        value = ops.transpose(self.split_heads(x, prefix + "v_proj", a.kv_heads), _i64(0, 2, 1, 3))
        key, value = cache.append(key, layer, "key"), cache.append(value, layer, "value")
        scale = _f32(a.head_dim**-0.5)
        mixed = ops.scaled_dot_product_attention(
            query, self.repeat_kv(key), self.repeat_kv(value), mask, scale, causal=False
        )
        rows = ops.reshape(ops.transpose(mixed, _i64(0, 2, 1, 3)), _i64(0, 0, a.heads * a.head_dim), True)
        return self.linear(rows, prefix + "o_proj")

    def split_heads(self, x: Node, name: str, heads: int) -> Node:
        """Project to queries, keys or values by head: (B,T,hidden) -> (B,T,heads,head_dim)."""
        y = self.linear(x, name, self.architecture.qkv_bias)
        return ops.reshape(y, _i64(0, 0, heads, self.architecture.head_dim), True)

    def apply_rope(self, x: Node, rope: RotaryTable, heads: int) -> Node:
        """Apply RoPE to the first rotary_dim dimensions of a head, in pairs of neighbours:
        (B,T,heads,head_dim) -> (B,heads,T,head_dim)

        Split, slices with a step, concat and the transpose at the end are what OpenVINO's RoPEFusionGPTJ looks for.
        """
        width, rest = self.architecture.rotary_dim, self.architecture.head_dim - self.architecture.rotary_dim
        rotary, unrotated = ops.variadic_split(x, _i64_scalar(3), _i64(width, rest)).outputs() if rest else (x, None)
        even, odd = (ops.slice(rotary, _i64(start), _i64(_SLICE_END), _i64(2), _i64(3)) for start in (0, 1))
        quarter_turn = [ops.unsqueeze(half, _i64(-1)) for half in (ops.multiply(odd, _f32(-1.0)), even)]
        quarter_turned = ops.reshape(ops.concat(quarter_turn, -1), _i64(0, 0, heads, width), True)
        y = ops.add(ops.multiply(rotary, rope.cos), ops.multiply(quarter_turned, rope.sin))
        return ops.transpose(ops.concat([y, unrotated], -1) if rest else y, _i64(0, 2, 1, 3))

    def repeat_kv(self, x: Node) -> Node:
        """Repeat keys or values for each query head of a group: (B,kv_heads,S,head_dim) -> (B,heads,S,head_dim)."""
        a = self.architecture
        if a.heads == a.kv_heads:
            return x
        # A bidirectional broadcast needs no sizes of x, and is what the fusions of cache and attention look for.
        ones = _i64(1, 1, a.heads // a.kv_heads, 1, 1)
        copies = ops.broadcast(ops.unsqueeze(x, _i64(2)), ones, broadcast_spec="BIDIRECTIONAL")
        return ops.reshape(copies, _i64(0, a.heads, -1, a.head_dim), True)


def named_matmul(x: Node, weight: Node, module: str) -> Node:
    """Multiply by a weight (out,in): (…,in) -> (…,out). The node bears the name of the weight's module, by which GenAI
    finds the matrices that a LoRA adapter updates."""
    product = ops.matmul(x, weight, False, True)
    product.set_friendly_name(module)
    return product


class StatefulCache:
    """The KV cache as model states, two a layer: gathered by beam, appended to, written back."""

    def __init__(self, architecture: Architecture, batch: Node, beam: Node) -> None:
        self.sinks: list[Node] = []
        self._beam = beam
        self._shape = PartialShape([-1, architecture.kv_heads, -1, architecture.head_dim])
        sizes = [batch, _i64(architecture.kv_heads, 0, architecture.head_dim)]
        self._empty = ops.broadcast(_f32(0.0), ops.concat(sizes, 0))

    def append(self, x: Node, layer: int, kind: str) -> Node:
        """Append keys or values to the layer's state; return all of them."""
        info = VariableInfo()
        # The names are those of optimum-intel's exports, by which GenAI and the NPU plugin identify the states.
        info.variable_id = f"past_key_values.{layer}.{kind}present.{layer}.{kind}"
        info.data_shape, info.data_type = self._shape, Type.f32
        variable = Variable(info)
        past = ops.gather(ops.read_value(self._empty, variable), self._beam, _i64_scalar(0))
        everything = ops.concat([past, x], 2)
        self.sinks.append(ops.assign(everything, variable))
        return everything


def causal_mask(attention_mask: Node, new_tokens: Node) -> Node:
    """Return the additive attention mask, (B,S) -> (B,1,T,S): MASKED at later tokens and at padding, else 0."""
    all_tokens = axis_length(attention_mask, 1)
    key = index_range(all_tokens)
    query = ops.add(index_range(new_tokens), ops.subtract(all_tokens, new_tokens))
    later = ops.greater(ops.unsqueeze(key, _i64(0)), ops.unsqueeze(query, _i64(1)))  # (T,S)
    padding = ops.unsqueeze(ops.equal(attention_mask, _i64_scalar(0)), _i64(1, 2))  # (B,1,1,S)
    return ops.select(ops.logical_or(ops.unsqueeze(later, _i64(0, 1)), padding), _f32(MASKED), _f32(0.0))


def rotary_table(architecture: Architecture, positions: Node) -> RotaryTable:
    """Return the cosines and sines of the rotation angles at positions: (B,T), or (B,3,T) for M-RoPE's time, height and
    width."""
    if architecture.rope_sections:
        frequencies = ops.constant(axis_frequencies(architecture)[np.newaxis])
    else:
        frequencies = ops.constant(inverse_frequencies(architecture).reshape(1, -1, 1))
        positions = ops.unsqueeze(positions, _i64(1))
    angles = ops.matmul(frequencies, ops.convert(positions, "f32"), False, False)
    angles = ops.transpose(angles, _i64(0, 2, 1))  # (B,T,rotary_dim/2)
    table = ops.concat([ops.sin(angles), ops.cos(angles)], -1)
    if architecture.yarn is not None:
        table = ops.multiply(table, _f32(architecture.yarn.attention_factor))
    half = architecture.rotary_dim // 2
    twice = ops.constant(np.repeat(np.arange(half, dtype=np.int32), 2))
    sin, cos = (
        ops.gather(ops.unsqueeze(part, _i64(2)), twice, _i64_scalar(3))
        for part in ops.variadic_split(table, _i64_scalar(-1), _i64(half, -1)).outputs()
    )
    return RotaryTable(cos, sin)


def text_positions(architecture: Architecture, positions: Node) -> Node:
    """Return the positions of text for `rotary_table`: (B,T), the same for each axis of M-RoPE."""
    if not architecture.rope_sections:
        return positions
    return ops.tile(ops.unsqueeze(positions, _i64(1)), _i64(1, 3, 1))


def inverse_frequencies(architecture: Architecture) -> npt.NDArray[np.float32]:
    """Return RoPE's frequencies, in radians a position, one for each pair of dimensions: (rotary_dim / 2).

    RoPE of the type linear divides all of them by its factor. With YaRN, low frequencies are divided by its factor,
    high ones are kept, and those between are blended:
    https://arxiv.org/abs/2309.00071, section 3.2. All in f32, as in transformers, so that both round alike."""
    dim, theta, yarn = architecture.rotary_dim, architecture.rope_theta, architecture.yarn
    wavelengths = np.float32(theta) ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))
    if yarn is None:
        return np.asarray(1.0 / wavelengths / np.float32(architecture.rope_factor), dtype=np.float32)

    def dimension(rotations: float) -> float:
        """Return the dimension that rotates so many times within the original context."""
        return dim * math.log(yarn.original_context / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(yarn.beta_fast), dimension(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    width = high - low or 0.001  # transformers' guard against a division by zero
    ramp = np.clip((np.arange(dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(width), 0.0, 1.0)
    kept = np.float32(1.0) - ramp
    blended = np.float32(1.0) / (np.float32(yarn.factor) * wavelengths) * (np.float32(1.0) - kept)
    return np.asarray(blended + np.float32(1.0) / wavelengths * kept, dtype=np.float32)


def axis_frequencies(architecture: Architecture) -> npt.NDArray[np.float32]:
    """Return M-RoPE's frequencies by axis, (rotary_dim / 2, 3): each pair of dimensions turns with one axis alone, as
    `rope_sections` assigns them in turn. An angle is then a product of matrices, in which zeros change no digit."""
    frequencies = inverse_frequencies(architecture)
    axes = np.repeat(np.arange(len(architecture.rope_sections)) % 3, architecture.rope_sections)
    table = np.zeros((len(frequencies), 3), np.float32)
    table[np.arange(len(frequencies)), axes] = frequencies
    return table


def dynamic_input(name: str, element: Type, rank: int) -> Node:
    """Return an input of any size along each of its axes."""
    node = ops.parameter(PartialShape([-1] * rank), element, name=name)
    node.output(0).set_names({name})
    return node


def axis_length(x: Node, axis: int) -> Node:
    """Return the length of one axis, as an i64 vector of one element."""
    return ops.gather(ops.shape_of(x), _i64(axis), _i64_scalar(0))


def index_range(end: Node) -> Node:
    """Return 0, 1, … up to, not including, `end`, a vector of one element."""
    return ops.range(_i64_scalar(0), ops.squeeze(end, _i64(0)), _i64_scalar(1), "i64")


def _i64(*values: int) -> Node:
    return ops.constant(np.array(values, dtype=np.int64))


def _i64_scalar(value: int) -> Node:
    return ops.constant(np.int64(value))


def _i32(value: int) -> Node:
    return ops.constant(np.int32(value))


def _f32(value: float) -> Node:
    return ops.constant(np.float32(value))
