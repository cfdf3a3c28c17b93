"""GPTQ: matrices packed along their columns, as AutoGPTQ, GPTQModel and AutoRound store them.

    qweight  I32 [columns * bits / 32, rows]     codes, the first of a word in its lowest bits
    qzeros   I32 [groups, rows * bits / 32]      zero points; in the first format, one less
    scales   F16 [groups, rows]
    g_idx    I32 [columns]                       the group of each column; may be absent

The first format subtracts 1 from each whole word of zero points, so it is added to whole words again; `gptq_v2` stores
them as they are. https://github.com/ModelCloud/GPTQModel, utils/model.py, convert_gptq_v1_to_v2_format_module.
"""

from functools import cached_property

import numpy as np

from .config import Quantization
from .layout import Array, GroupLayout, QuantizedMatrix, StoredPart, unpack_words
from .module import ModuleTensors, as_f32, integers

_ONES = {4: 0x11111111, 8: 0x01010101}  # 1 in each code of a word


def read_gptq(module: ModuleTensors, quantization: Quantization) -> QuantizedMatrix:
    """Return the matrix of a module. Raises CheckpointError."""
    codes, scales = module.matrix("qweight", "I32"), module.floats("scales")
    zeros = module.matrix("qzeros", "I32")
    rows = codes.raw.shape[1]
    bits = zeros.raw.shape[1] * 32 // rows
    if bits not in _ONES:
        raise module.invalid(f"it has {bits} bits a weight; 4 and 8 are supported")
    columns, groups = codes.raw.shape[0] * 32 // bits, zeros.raw.shape[0]
    if scales.raw.shape != (groups, rows):
        raise module.invalid(f"scales have the shape {list(scales.raw.shape)[:8]}, not {[groups, rows]}")
    group = group_size(module, quantization, columns, groups)
    index, parts = None, [codes, zeros, scales]
    if "g_idx" in module:
        order = module.part("g_idx", "I32")
        parts.append(order)
        index = column_index(module, integers(order), columns, groups, group)
    points = _zero_points(zeros, bits, quantization.zero_offset)
    constant = int(points.flat[0]) if (points == points.flat[0]).all() else None
    layout = GroupLayout(columns, bits, group, constant, index)
    name = f"GPTQ int{bits}" + (" with reordered columns" if index is not None else "")
    return QuantizedMatrix(
        name, rows, layout, parts, lambda: _Rows(layout, codes, scales, zeros, quantization.zero_offset).read
    )


def group_size(module: ModuleTensors, quantization: Quantization, columns: int, groups: int) -> int:
    """Return how many columns share a scale: what the config states if it fits the number of groups, else an equal
    part. Raises CheckpointError."""
    stated = quantization.group_size
    if stated and -(-columns // stated) == groups:
        return stated
    if columns % groups:
        raise module.invalid(f"{columns} columns do not divide into {groups} groups")
    return columns // groups


def column_index(module: ModuleTensors, order: Array, columns: int, groups: int, group: int) -> Array | None:
    """Return the group of each column, None if groups are of neighbours. Raises CheckpointError."""
    if order.shape != (columns,) or order.min() < 0 or order.max() >= groups:
        raise module.invalid("g_idx does not name the group of each column")
    if (order == np.arange(columns) // group).all():
        return None
    if order.max() != groups - 1:
        raise module.invalid("g_idx leaves out groups")
    return order


class _Rows:
    """Reads the records of rows; the codes are transposed once."""

    def __init__(
        self, layout: GroupLayout, codes: StoredPart, scales: StoredPart, zeros: StoredPart, offset: int
    ) -> None:
        self._layout, self._stored, self._scales, self._zeros, self._offset = layout, codes, scales, zeros, offset

    def read(self, first: int, end: int) -> Array:
        return self._layout.rows(self._codes[first:end], self._scale[first:end], self._zero[first:end])

    @cached_property
    def _codes(self) -> Array:
        words = np.ascontiguousarray(integers(self._stored).T)  # little endian: a word's first code in its first byte
        return words.view(np.uint8)

    @cached_property
    def _scale(self) -> Array:
        return np.ascontiguousarray(as_f32(self._scales).T)

    @cached_property
    def _zero(self) -> Array:
        return np.ascontiguousarray(_zero_points(self._zeros, self._layout.bits, self._offset).T)


def _zero_points(stored: StoredPart, bits: int, offset: int) -> Array:
    """Unpack GPTQ's zero points (groups, words) -> (groups, rows), with the `offset` of the format added."""
    words = integers(stored).view(np.uint32)
    return unpack_words(words + np.uint32(_ONES[bits] * offset), bits)
