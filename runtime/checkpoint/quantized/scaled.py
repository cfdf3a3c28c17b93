"""Matrices of integers or FP8 with scales beside them: compressed-tensors, FP8 checkpoints, and bitsandbytes' int8.

compressed-tensors packs int4 and int8 in words along a row, with half of their range added:

    weight_packed      I32 [rows, columns * bits / 32]     codes, the first of a word in its lowest bits
    weight_scale           [rows, groups], or one for all
    weight_zero_point  I32 [rows * bits / 32, groups]      if asymmetric; packed along the rows
    weight_shape           rows and columns
    weight_g_idx       I32 [columns]                       the group of each column, if they were reordered

Not packed, and in FP8, the codes are those of the dtype, and the zero points not packed either:

    weight             I8 or F8_E4M3 [rows, columns]
    weight_scale       for all, a row, or a block of rows and columns; `weight_scale_inv` is the same by another name
    SCB                in bitsandbytes' int8: 127 times the scale of each row

https://github.com/vllm-project/compressed-tensors, compressors; transformers, integrations/finegrained_fp8.py.
"""

from dataclasses import replace
from functools import cache

import numpy as np

from .config import Quantization
from .gptq import column_index, group_size
from .layout import Array, GroupLayout, QuantizedMatrix, StoredPart, unpack_words
from .module import ModuleTensors, as_f32, integers

_FP8 = {"F8_E4M3": (4, 7, True), "F8_E5M2": (5, 15, False)}  # exponent bits, bias; whether there is no infinity


def read_packed(module: ModuleTensors, quantization: Quantization) -> QuantizedMatrix:
    """Return a matrix of compressed-tensors whose codes are packed. Raises CheckpointError."""
    codes, scale, size = (
        module.matrix("weight_packed", "I32"),
        module.floats("weight_scale"),
        module.part("weight_shape", "I64", "I32"),
    )
    rows, columns = (int(n) for n in integers(size)) if size.raw.shape == (2,) else (0, 0)
    bits = codes.raw.shape[1] * 32 // max(1, columns)
    if codes.raw.shape != (rows, -(-columns * bits // 32)) or bits not in (4, 8):
        raise module.invalid(f"weight_packed has the shape {list(codes.raw.shape)}; 4 and 8 bits are supported")
    groups = scale.raw.shape[1] if len(scale.raw.shape) == 2 else 1
    if scale.raw.shape not in ((rows, groups), (rows,), (1,), ()):
        raise module.invalid(f"weight_scale has the shape {list(scale.raw.shape)[:8]}")
    layout = GroupLayout(columns, bits, group_size(module, quantization, columns, groups), 1 << (bits - 1))
    parts, points = [codes, scale], None
    if "weight_zero_point" in module:
        zeros = module.part("weight_zero_point", "I32")
        if zeros.raw.shape != (-(-rows * bits // 32), groups):
            raise module.invalid(f"weight_zero_point has the shape {list(zeros.raw.shape)[:8]}")
        points = np.ascontiguousarray(unpack_words(integers(zeros).T, bits)[:, :rows].T)
        parts, layout = [*parts, zeros], replace(layout, zero=None)
    if "weight_g_idx" in module and (order := integers(module.part("weight_g_idx", "I32"))).min(initial=0) >= 0:
        layout = replace(layout, index=column_index(module, order, columns, groups, layout.group))
    width = columns * bits // 8

    def read(first: int, end: int) -> Array:
        stored = np.ascontiguousarray(np.asarray(codes.raw[first:end])).view(np.uint8)[:, :width]
        part = points if points is None else points[first:end]
        return layout.rows(stored, _scale_rows(scale, first, end), part)

    name = f"compressed-tensors int{bits}" + (" with reordered columns" if layout.index is not None else "")
    return QuantizedMatrix(name, rows, layout, parts, lambda: read)


def read_scaled(module: ModuleTensors, quantization: Quantization) -> QuantizedMatrix:
    """Return a matrix of int8 or FP8 with scales. Raises CheckpointError."""
    codes = module.matrix("weight", "I8", *_FP8)
    rows, columns = codes.raw.shape
    named = next((suffix for suffix in ("weight_scale", "weight_scale_inv", "SCB") if suffix in module), "weight_scale")
    scale = module.floats(named)
    row_block, group = _blocks(module, scale, (rows, columns), quantization)
    factor = np.float32(1 / 127) if named == "SCB" else np.float32(1)
    integer = codes.dtype == "I8"
    points = None
    if "weight_zero_point" in module and integer:
        points = integers(module.part("weight_zero_point", "I8")).astype(np.int16) + 128
        if points.size != 1 and (row_block != 1 or points.size != rows * (columns // group)):
            raise module.invalid(f"weight_zero_point has the shape {list(points.shape)[:8]}")
        points = points.reshape(1, 1) if points.size == 1 else points.reshape(rows, -1)
    layout = GroupLayout(columns, 8, group, 128 if integer and points is None else None)
    layout = layout if integer else replace(layout, values=fp8_values(codes.dtype))

    def read(first: int, end: int) -> Array:
        stored = np.asarray(codes.raw[first:end]).view(np.uint8)
        part = points if points is None or points.size == 1 else points[first:end]
        found = _scale_rows(scale, first, end, row_block) * factor
        return layout.rows(stored ^ np.uint8(128) if integer else stored, found, part)

    return QuantizedMatrix("int8" if integer else "FP8", rows, layout, [codes, scale], lambda: read)


def _blocks(
    module: ModuleTensors, scale: StoredPart, shape: tuple[int, int], quantization: Quantization
) -> tuple[int, int]:
    """Return how many rows and columns share a scale. Raises CheckpointError."""
    found = scale.raw.shape
    if scale.raw.nbytes and len(found) <= 2 and all(n == 1 for n in found):
        return shape
    down, across = found if len(found) == 2 else (*found, 1) if len(found) == 1 else (0, 0)
    sizes = quantization.block_size or (0, 0)
    blocks = []
    for size, count, stated in zip(shape, (down, across), sizes, strict=True):
        if stated and -(-size // stated) == count:
            blocks.append(stated)
        elif count and size % count == 0:
            blocks.append(size // count)
        else:
            raise module.invalid(f"its scale has the shape {list(found)[:8]} for a matrix of {list(shape)}")
    return blocks[0], blocks[1]


def _scale_rows(scale: StoredPart, first: int, end: int, block: int = 1) -> Array:
    """Return the scales of some rows: (rows, groups), or one for all."""
    if all(n == 1 for n in scale.raw.shape):
        return as_f32(scale).reshape(1, 1)
    found = as_f32(scale, slice(first // block, -(-end // block)))
    found = found.reshape(len(found), -1)
    return found if block == 1 else found[np.arange(first, end) // block - first // block]


@cache
def fp8_values(dtype: str) -> Array:
    """Return the value of each byte in FP8 (https://arxiv.org/abs/2209.05433)."""
    exponent_bits, bias, finite = _FP8[dtype]
    mantissa_bits = 7 - exponent_bits
    code = np.arange(256)
    exponent, mantissa = (code & 127) >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
    fraction = mantissa / (1 << mantissa_bits)
    value = np.where(exponent > 0, (1 + fraction) * 2.0 ** (exponent - bias), fraction * 2.0 ** (1 - bias))
    if finite:
        value[(code & 127) == 127] = np.nan
    else:
        largest = exponent == (1 << exponent_bits) - 1
        value[largest] = np.where(mantissa[largest] == 0, np.inf, np.nan)
    return np.asarray(np.where(code & 128, -value, value), np.float32)
