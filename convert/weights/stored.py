"""Quantised weights of a checkpoint as OpenVINO's compressed constants: nothing is quantised again.

OpenVINO has int4 and int8 in groups of neighbours in a row, with a scale and perhaps a zero point each: GPTQ, AWQ and
compressed-tensors have the same, in another order. Their scales become f16, which changes bf16 only below 1e-5.
Reordered columns, FP8 and NF4 have no such form.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import openvino as ov
from openvino import Node, Shape, Type
from openvino import opset13 as ops
from openvino.op import Constant

from runtime.checkpoint.quantized.layout import Array, GroupLayout, pack_nibbles
from runtime.checkpoint.tensors import Tensor

from ..output.ir_writer import IrWriter
from .gguf_blocks import gguf_form
from .group_form import Bytes, GroupArrays, GroupForm

_BLOCK_WEIGHTS = 1 << 22  # reordered at a time
_SIGNED = {4: Type.i4, 8: Type.i8}
_UNSIGNED = {4: Type.u4, 8: Type.u8}
_SIGN_BITS = {4: np.uint8(0x88), 8: np.uint8(0x80)}  # of the codes in a byte


def stored_form(tensor: Tensor) -> GroupForm | None:
    """Return OpenVINO's form of the tensor's weights as they are stored, None if it has none."""
    return gguf_form(tensor.quantization) if tensor.layout is None else _layout_form(tensor.layout)


def stored_size(tensor: Tensor, form: GroupForm) -> int:
    """Return the bytes of the tensor in the IR."""
    rows, columns = tensor.shape
    shared = 16 + (form.zero.bitwidth if form.zero else 0)
    return int(rows * (columns * form.element.bitwidth + columns // form.group * shared) // 8)


def write_stored(tensor: Tensor, form: GroupForm, ir: IrWriter) -> Node:
    """Write the tensor's weights to the IR's file; return the node that yields it in f32. Its constants have NNCF's
    names and order."""
    rows, columns = tensor.shape
    scales: list[Any] = []
    zeros: list[Any] = []

    def weights() -> Iterator[Bytes]:
        step = max(1, _BLOCK_WEIGHTS // columns)
        for first in range(0, rows, step):
            arrays = form.read(np.asarray(tensor.raw[first : first + step]))
            scales.append(arrays.scale)
            zeros.append(arrays.zero)
            yield arrays.weights

    def constant(data: Any, shape: list[int], element: Type, name: str) -> Node:
        node = Constant(ov.Tensor(data, Shape(shape), element), shared_memory=True)
        node.set_friendly_name(name)
        return node

    def zero_points() -> Iterator[Array]:
        yield from zeros if form.zero != Type.u4 else [_pack_flat(np.concatenate(zeros))]

    groups, scale, zero = columns // form.group, tensor.name + "/scale", tensor.name + "/zero_point"
    shape, shared = ([rows, groups, form.group], [rows, groups, 1]) if groups > 1 else ([rows, columns], [rows, 1])
    y = ops.convert(constant(ir.write(tensor.name, weights()), shape, form.element, tensor.name), "f16")
    if form.zero:
        points = constant(ir.write(zero, zero_points()), shared, form.zero, zero)
        y = ops.subtract(y, points if form.zero == Type.f16 else ops.convert(points, "f16"))
    y = ops.multiply(y, constant(ir.write(scale, scales), shared, Type.f16, scale))
    if groups > 1:
        y = ops.reshape(y, ops.constant(np.array([rows, columns], np.int64)), False)
    return ops.convert(y, "f32")


def _layout_form(layout: GroupLayout) -> GroupForm | None:
    """Return the form of integers in groups of neighbours. Symmetric ones are signed; others have zero points."""
    if layout.values is not None or layout.index is not None or layout.columns % layout.group:
        return None
    symmetric, sign = layout.zero == 1 << (layout.bits - 1), _SIGN_BITS[layout.bits]

    def read(rows: Array) -> GroupArrays:
        codes, scale = np.ascontiguousarray(rows["codes"]), rows["scale"].astype(np.float16)
        return GroupArrays(codes ^ sign, scale) if symmetric else GroupArrays(codes, scale, rows["zero"].copy())

    element = (_SIGNED if symmetric else _UNSIGNED)[layout.bits]
    return GroupForm(element, layout.group, None if symmetric else element, read)


def _pack_flat(codes: Array) -> Array:
    """Pack 4-bit codes of all rows, two a byte."""
    flat = codes.reshape(1, -1)
    return pack_nibbles(np.pad(flat, ((0, 0), (0, flat.size % 2)))).reshape(-1)
