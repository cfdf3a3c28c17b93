"""bitsandbytes in 4 bits, NF4 or FP4: a flat array of codes, and a table of the values that they stand for.

    weight                   U8 [rows * columns / 2, 1]   two codes a byte, the first in the upper half; perhaps under
                             another dtype (bnb_4bit_quant_storage)
    weight.absmax            the scale of each block of the flat array: F32, or codes in U8, quantised themselves:
    weight.nested_absmax     F32, the scale of each block of those
    weight.nested_quant_map  F32 [256], the value of each of their codes; `nested_offset` is added to the product
    weight.quant_map         F32 [16], the value of each code of a weight
    weight.quant_state.bitsandbytes__nf4 (or __fp4)   JSON in bytes: shape, blocksize, nested_blocksize, nested_offset

https://github.com/bitsandbytes-foundation/bitsandbytes, functional.py, QuantState.as_dict.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ... import strict_json
from .layout import Array, GroupLayout, QuantizedMatrix
from .module import ModuleTensors, as_f32, integers

_STATE = "weight.quant_state.bitsandbytes__"
KINDS = {"nf4": "NF4", "fp4": "FP4"}


class _State(NamedTuple):
    rows: int
    columns: int
    block: int
    nested_block: int
    nested_offset: float


def read_bitsandbytes(module: ModuleTensors) -> QuantizedMatrix:
    """Return the matrix of a module. Raises CheckpointError."""
    kind = next((kind for kind in KINDS if _STATE + kind in module), "nf4")
    state = _read_state(module, kind)
    codes, absmax = module.bytes_of("weight"), module.part("weight.absmax", "U8", "F32")
    values = as_f32(module.floats("weight.quant_map"))
    count, blocks = state.rows * state.columns, absmax.raw.shape
    if len(codes.raw) * 2 != count or values.shape != (16,) or state.columns % 2:
        raise module.invalid(f"weight has {len(codes.raw):,} bytes")
    if blocks != (-(-count // state.block),):
        raise module.invalid(f"weight.absmax has the shape {list(blocks)[:8]}")
    # A block may continue in the next row: the scales of each row are then those of each of its columns.
    group = state.block if state.columns % state.block == 0 else 1
    layout = GroupLayout(state.columns, 4, group, values=values)
    parts = [codes, absmax]
    nested = _nested_scales(module, state, math.prod(blocks)) if absmax.dtype == "U8" else None

    def read(first: int, end: int) -> Array:
        begin, stop = first * state.columns, end * state.columns
        packed = np.asarray(codes.raw[begin // 2 : stop // 2]).reshape(end - first, -1)
        scales = slice(begin // state.block, -(-stop // state.block))
        found = as_f32(absmax, scales) if nested is None else nested(integers(absmax)[scales], scales)
        if group == 1:
            found = found[np.arange(begin, stop) // state.block - scales.start]
        return layout.rows(packed >> 4 | packed << 4, found.reshape(end - first, -1))

    return QuantizedMatrix(f"bitsandbytes {KINDS[kind]}", state.rows, layout, parts, lambda: read)


def _nested_scales(module: ModuleTensors, state: _State, count: int) -> Any:
    """Return a function from codes of scales, and their places, to the scales."""
    scale, values = as_f32(module.floats("weight.nested_absmax")), as_f32(module.floats("weight.nested_quant_map"))
    if values.shape != (256,) or scale.shape != (-(-count // state.nested_block),):
        raise module.invalid(f"weight.nested_absmax has the shape {list(scale.shape)[:8]}")

    def decode(codes: Array, place: slice) -> Array:
        return np.asarray(
            values[codes] * scale[np.arange(place.start, place.stop) // state.nested_block]
            + np.float32(state.nested_offset)
        )

    return decode


def _read_state(module: ModuleTensors, kind: str) -> _State:
    """Return the sizes that a module's JSON states. Raises CheckpointError."""
    stored = integers(module.part(_STATE + kind, "U8")).tobytes()
    try:
        found = strict_json.parse(stored)
    except ValueError as exc:
        raise module.invalid("its quant_state is not JSON") from exc
    match found:
        case {"shape": [int(rows), int(columns)], "blocksize": int(block), **rest} if (
            min(rows, columns, block) > 0 and max(rows, columns, block) < 2**31
        ):
            nested: Any
            offset: Any
            nested, offset = rest.get("nested_blocksize", 1), rest.get("nested_offset", 0.0)
            if type(nested) is int and nested > 0 and type(offset) in (int, float):
                return _State(rows, columns, block, nested, float(offset))
    raise module.invalid("its quant_state has no shape and blocksize")
