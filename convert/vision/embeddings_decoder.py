"""The GLM-4 decoder over embeddings that carry the shift of their position, and the table that makes them of token ids.

GenAI passes plain indices as positions, but a picture's tokens do not stand one after the other. RoPE sees distances
alone, so any positions are plain indices with a shift each, of which the last picture and all that follows it, the
generated tokens included, has 0. The shift travels in front of the embedding.
"""

import numpy as np
import openvino as ov
from openvino import Node, PartialShape, Type
from openvino import opset13 as ops

from runtime.checkpoint.tensors import Architecture
from runtime.prompt.shifts import SHIFT_BASE, shift_numbers

from ..graph import DecoderBlocks, StatefulCache, Weight, axis_length, causal_mask, dynamic_input, rotary_table


def build_embeddings_decoder(architecture: Architecture, weight: Weight) -> ov.Model:
    """Build the decoder, stateful. Its inputs are those of `build_decoder`, but inputs_embeds (B,T,shift numbers +
    hidden), f32, in place of input_ids."""
    numbers = shift_numbers(architecture.rope_sections)
    embeds = ops.parameter(PartialShape([-1, -1, numbers + architecture.hidden]), Type.f32, name="inputs_embeds")
    embeds.output(0).set_names({"inputs_embeds"})
    attention_mask = dynamic_input("attention_mask", Type.i64, rank=2)
    positions = dynamic_input("position_ids", Type.i64, rank=2)
    beam = dynamic_input("beam_idx", Type.i32, rank=1)
    shift, x = ops.variadic_split(embeds, _i64_scalar(2), _i64(numbers, architecture.hidden)).outputs()
    blocks = DecoderBlocks(architecture, weight)
    cache = StatefulCache(architecture, batch=axis_length(embeds, 0), beam=beam)
    rope = rotary_table(architecture, _shifted(positions, shift, architecture))
    mask = causal_mask(attention_mask, new_tokens=axis_length(embeds, 1))
    for layer in range(architecture.layers):
        x = blocks.layer(x, layer, rope, mask, cache)
    logits = blocks.head(x)
    logits.output(0).set_names({"logits"})
    model = ov.Model([ops.result(logits)], cache.sinks, [embeds, attention_mask, positions, beam], "glm4_vision")
    model.set_rt_info("8.0", ["runtime_options", "ACTIVATIONS_SCALE_FACTOR"])
    return model


def build_embeddings_table(architecture: Architecture, weight: Weight) -> ov.Model:
    """Build the table of the generated tokens' embeddings: input (B,T), i64 -> inputs_embeds with shift 0."""
    ids = dynamic_input("input", Type.i64, rank=2)
    x = DecoderBlocks(architecture, weight).embedding(ids)
    numbers = _i64(shift_numbers(architecture.rope_sections))
    zeros = ops.broadcast(ops.constant(np.float32(0.0)), ops.concat([ops.shape_of(ids), numbers], 0))
    embeds = ops.concat([zeros, x], 2)
    embeds.output(0).set_names({"inputs_embeds"})
    return ov.Model([ops.result(embeds)], [ids], "glm4_vision_table")


def _shifted(positions: Node, shift: Node, architecture: Architecture) -> Node:
    """Add the shifts in (B,T,numbers) to positions (B,T): (B,T), or (B,3,T) for M-RoPE.

    They are added as integers: OpenVINO keeps angles in f32 only where they come from integers.
    """
    whole = ops.convert(shift, "i64")
    if not architecture.rope_sections:
        high, low = ops.split(whole, _i64_scalar(2), 2).outputs()
        total = ops.add(ops.multiply(high, _i64(SHIFT_BASE)), low)
        return ops.add(positions, ops.squeeze(total, _i64(2)))
    _, pairs = ops.variadic_split(whole, _i64_scalar(2), _i64(1, 6)).outputs()
    pairs = ops.reshape(pairs, _i64(0, 0, 3, 2), True)
    high, low = ops.split(pairs, _i64_scalar(3), 2).outputs()  # (B,T,3,1)
    total = ops.squeeze(ops.add(ops.multiply(high, _i64(SHIFT_BASE)), low), _i64(3))
    return ops.add(ops.unsqueeze(positions, _i64(1)), ops.transpose(total, _i64(0, 2, 1)))


def _i64(*values: int) -> Node:
    return ops.constant(np.array(values, dtype=np.int64))


def _i64_scalar(value: int) -> Node:
    return ops.constant(np.int64(value))
