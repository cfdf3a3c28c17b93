"""Decompression of a weight to f32 with numpy, for the layer-wise check, which reads each weight once.

The CPU plugin would first repack the constants of each layer, which takes as long as reading a few hundred tokens. The
nodes are those that NNCF writes: Convert, Subtract of a zero point, Multiply by a scale, Reshape of groups to rows. All
is in f32, in which every value is exact but for the product.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from openvino import Node, Type

from .reference import Floats

DECOMPRESSION_OPS = ("Convert", "Subtract", "Multiply", "Reshape")
_NF4 = np.array(  # the value of each code as OpenVINO converts it, in f16: https://arxiv.org/abs/2305.14314, appendix E
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float16,
)
_BLOCK = 1 << 20  # weights at a time: 4 MB in f32


def decompress(node: Node, out: Floats) -> None:
    """Write the values of `node` to `out`, of the same shape, in blocks of rows that fit the processor's cache."""
    rows, columns = len(out), out[0].size
    step = max(1, _BLOCK // columns) if columns % 2 == 0 else rows  # two 4-bit values share a byte
    with np.errstate(all="ignore"):  # the caller finds values that are not finite
        for first in range(0, rows, step):
            part = out[first : first + step]
            part[...] = _node_rows(node, slice(first, first + len(part))).reshape(part.shape)


def _node_rows(node: Node, rows: slice) -> npt.NDArray[Any]:
    """Return the node's values in these rows; a row may have another shape."""
    kind = node.get_type_name()
    if kind == "Constant":
        return _constant_rows(node, rows)
    found = _node_rows(node.input_value(0).get_node(), rows)
    if kind == "Reshape":
        return found
    values: Floats = found.astype(np.float32, copy=False)
    if kind == "Convert":
        return values
    other: Floats = _node_rows(node.input_value(1).get_node(), rows).astype(np.float32, copy=False)
    return values - other if kind == "Subtract" else values * other


def _constant_rows(constant: Node, rows: slice) -> npt.NDArray[Any]:
    """Return rows of a constant in a dtype of numpy."""
    element = constant.get_element_type()
    if element in (Type.i4, Type.u4, Type.nf4):
        return _unpack_4bit(constant, rows)
    if element == Type.bf16:
        bits: npt.NDArray[np.uint32] = constant.data.view(np.uint16)[rows].astype(np.uint32)
        return (bits << 16).view(np.float32)
    return np.asarray(constant.data[rows])


def _unpack_4bit(constant: Node, rows: slice) -> npt.NDArray[Any]:
    """Unpack rows of 4-bit values; the first of two neighbours is in the lower half of their byte."""
    signed = constant.get_element_type() == Type.i4
    count, *row = constant.get_output_shape(0)
    packed, size = constant.data.view(np.uint8).reshape(-1), math.prod(row)
    shared = size % 2 == 1  # a byte by two rows
    if not shared:
        packed = packed[rows.start * size // 2 : rows.stop * size // 2]
    found = np.empty((len(packed), 2), np.uint8)
    found[:, 0] = packed & 15
    found[:, 1] = packed >> 4
    if signed:
        found ^= 8
        found -= 8
    values: npt.NDArray[Any] = found.reshape(-1).view(np.int8 if signed else np.uint8)
    if constant.get_element_type() == Type.nf4:
        values = _NF4[values]
    return values[: count * size].reshape(count, *row)[rows] if shared else values.reshape(-1, *row)
