"""A GGUF's blocks as OpenVINO's compressed constants, where OpenVINO has the format: nothing is quantised again.

ggml's blocks of 32 weights share a scale, and some an offset: OpenVINO's int4 or int8 in groups of 32, in another order
of bytes. Q4_0 and Q8_0 are kept exactly. Q4_1 and Q4_K have an offset where OpenVINO has a zero point, which is then
not an integer, and Q4_K's scales are products: both are rounded to f16. Blocks: ggml's ggml-common.h.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import Node, Shape, Type
from openvino import opset13 as ops
from openvino.op import Constant

from runtime.checkpoint.tensors import Tensor

from ..output.ir_writer import IrWriter

GROUP = 32
_BLOCK_WEIGHTS = 1 << 22  # reordered at a time
Bytes = npt.NDArray[np.uint8]


class _BlockArrays(NamedTuple):
    """Arrays of n blocks: the weights' bytes (n, …), and each group's scale and zero point in f16 (n, groups)."""

    weights: Bytes
    scale: npt.NDArray[np.float16]
    zero: npt.NDArray[np.float16] | None = None


def _q8_0(blocks: Bytes) -> _BlockArrays:
    return _BlockArrays(blocks[:, 2:], _f16(blocks[:, :2]))


def _q4_0(blocks: Bytes) -> _BlockArrays:
    """Weights are stored with 8 added: in four bits, the upper bit inverted."""
    return _BlockArrays(_pack_int4(_unpack_nibbles(blocks[:, 2:], 16)) ^ np.uint8(0x88), _f16(blocks[:, :2]))


def _q4_1(blocks: Bytes) -> _BlockArrays:
    scale, offset = _f16(blocks[:, :2]).astype(np.float32), _f16(blocks[:, 2:4]).astype(np.float32)
    return _with_offset(_unpack_nibbles(blocks[:, 4:], 16), scale, offset)


def _q4_k(blocks: Bytes) -> _BlockArrays:
    """Eight groups, whose 6-bit scales and offsets are multiplied by one f16 value each."""
    from gguf.quants import Q4_K

    scales, offsets = Q4_K.get_scale_min(blocks[:, 4:16])
    scale = _f16(blocks[:, :2]).astype(np.float32) * scales.reshape(-1, 8).astype(np.float32)
    offset = _f16(blocks[:, 2:4]).astype(np.float32) * offsets.reshape(-1, 8).astype(np.float32)
    return _with_offset(_unpack_nibbles(blocks[:, 16:], 32), scale, -offset)


_FORMATS: dict[
    str, tuple[Type, int, Callable[[Bytes], _BlockArrays]]
] = {  # ggml's type: OpenVINO's type, bytes of a block
    "Q8_0": (Type.i8, 34, _q8_0),
    "Q4_0": (Type.i4, 18, _q4_0),
    "Q4_1": (Type.u4, 20, _q4_1),
    "Q4_K": (Type.u4, 144, _q4_k),
}
_ZERO_POINTS = (Type.u4,)


def supports(tensor: Tensor) -> bool:
    """Return whether OpenVINO has the format of the tensor's blocks."""
    return tensor.gguf_type in _FORMATS


def nbytes(tensor: Tensor) -> int:
    """Return the bytes of the tensor in the IR."""
    kind, _, _ = _FORMATS[tensor.gguf_type]
    rows, columns = tensor.shape
    weight, shared = (8 if kind == Type.i8 else 4), (32 if kind in _ZERO_POINTS else 16)
    return rows * (columns * weight + columns // GROUP * shared) // 8


def keep_blocks(tensor: Tensor, ir: IrWriter) -> Node:
    """Write the tensor's blocks to the IR's file; return the node that yields it in f32. Its constants have NNCF's
    names and order."""
    kind, size, read = _FORMATS[tensor.gguf_type]
    rows, columns = tensor.shape
    scales: list[Any] = []
    zeros: list[Any] = []

    def weights() -> Iterator[Bytes]:
        step = max(1, _BLOCK_WEIGHTS // columns)
        for first in range(0, rows, step):
            parts = read(np.ascontiguousarray(tensor.raw[first : first + step]).reshape(-1, size))
            scales.append(parts.scale)
            zeros.append(parts.zero)
            yield parts.weights

    def constant(data: Any, shape: list[int], element: Type, name: str) -> Node:
        node = Constant(ov.Tensor(data, Shape(shape), element), shared_memory=True)
        node.set_friendly_name(name)
        return node

    groups, scale, zero = columns // GROUP, tensor.name + "/scale", tensor.name + "/zero_point"
    y = constant(ir.write(tensor.name, weights()), [rows, groups, GROUP], kind, tensor.name)
    y = ops.convert(y, "f16")
    if kind in _ZERO_POINTS:
        y = ops.subtract(y, constant(ir.write(zero, zeros), [rows, groups, 1], Type.f16, zero))
    y = ops.multiply(y, constant(ir.write(scale, scales), [rows, groups, 1], Type.f16, scale))
    y = ops.reshape(y, ops.constant(np.array([rows, columns], np.int64)), False)
    return ops.convert(y, "f32")


def _with_offset(weights: Bytes, scale: npt.NDArray[np.float32], offset: npt.NDArray[np.float32]) -> _BlockArrays:
    """Rewrite scale * weight + offset as (weight - zero) * scale. Where the scale is 0, every weight is the offset: the
    scale becomes -offset, the weights 0 and the zero point 1."""
    flat = scale == 0
    weights = np.where(np.repeat(flat, GROUP, -1), np.uint8(0), weights)
    scale = np.where(flat, -offset, scale)
    zero = np.where(flat, np.float32(1), -offset / np.where(scale == 0, np.float32(1), scale))
    return _BlockArrays(_pack_int4(weights), scale.astype(np.float16), zero.astype(np.float16))


def _unpack_nibbles(data: Bytes, run: int) -> Bytes:
    """Unpack (n, bytes) -> (n, weights): `run` weights in the lower halves of as many bytes, then the upper ones."""
    runs = data.reshape(len(data), -1, 1, run)
    return np.concatenate([runs & 15, runs >> 4], 2).reshape(len(data), -1)


def _pack_int4(weights: Bytes) -> Bytes:
    """Pack (n, weights) -> (n, bytes) as OpenVINO does: the first of two neighbours in the lower half."""
    return weights[:, ::2] | weights[:, 1::2] << np.uint8(4)


def _f16(data: Bytes) -> npt.NDArray[np.float16]:
    return np.ascontiguousarray(data).view(np.float16)
