"""A GGUF's blocks in OpenVINO's layout, where OpenVINO has the format: nothing is quantised again.

ggml's blocks of 32 weights share a scale, and some an offset: OpenVINO's int4 or int8 in groups of 32, in another order
of bytes. Q4_0 and Q8_0 are kept exactly. Q4_1 and Q4_K have an offset where OpenVINO has a zero point, which is then
not an integer, and Q4_K's scales are products: both are rounded to f16. Blocks: ggml's ggml-common.h.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from openvino import Type

from runtime.checkpoint.quantized.layout import pack_nibbles

from .group_form import Bytes, GroupArrays, GroupForm

_GROUP = 32


def _q8_0(blocks: Bytes) -> GroupArrays:
    return GroupArrays(blocks[:, 2:], _f16(blocks[:, :2]))


def _q4_0(blocks: Bytes) -> GroupArrays:
    """Weights are stored with 8 added: in four bits, the upper bit inverted."""
    return GroupArrays(pack_nibbles(_unpack_nibbles(blocks[:, 2:], 16)) ^ np.uint8(0x88), _f16(blocks[:, :2]))


def _q4_1(blocks: Bytes) -> GroupArrays:
    scale, offset = _f16(blocks[:, :2]).astype(np.float32), _f16(blocks[:, 2:4]).astype(np.float32)
    return _with_offset(_unpack_nibbles(blocks[:, 4:], 16), scale, offset)


def _q4_k(blocks: Bytes) -> GroupArrays:
    """Eight groups, whose 6-bit scales and offsets are multiplied by one f16 value each."""
    from gguf.quants import Q4_K

    scales, offsets = Q4_K.get_scale_min(blocks[:, 4:16])
    scale = _f16(blocks[:, :2]).astype(np.float32) * scales.reshape(-1, 8).astype(np.float32)
    offset = _f16(blocks[:, 2:4]).astype(np.float32) * offsets.reshape(-1, 8).astype(np.float32)
    return _with_offset(_unpack_nibbles(blocks[:, 16:], 32), scale, -offset)


_FORMATS: dict[
    str, tuple[Type, int, Callable[[Bytes], GroupArrays]]
] = {  # ggml's type: OpenVINO's type, bytes of a block
    "Q8_0": (Type.i8, 34, _q8_0),
    "Q4_0": (Type.i4, 18, _q4_0),
    "Q4_1": (Type.u4, 20, _q4_1),
    "Q4_K": (Type.u4, 144, _q4_k),
}


def gguf_form(kind: str) -> GroupForm | None:
    """Return OpenVINO's form of ggml's block format `kind`, None if it has none."""
    if kind not in _FORMATS:
        return None
    element, size, read = _FORMATS[kind]
    zero = Type.f16 if element == Type.u4 else None
    return GroupForm(element, _GROUP, zero, lambda rows: read(np.ascontiguousarray(rows).reshape(-1, size)))


def _with_offset(weights: Bytes, scale: npt.NDArray[np.float32], offset: npt.NDArray[np.float32]) -> GroupArrays:
    """Rewrite scale * weight + offset as (weight - zero) * scale. Where the scale is 0, every weight is the offset: the
    scale becomes -offset, the weights 0 and the zero point 1."""
    flat = scale == 0
    weights = np.where(np.repeat(flat, _GROUP, -1), np.uint8(0), weights)
    scale = np.where(flat, -offset, scale)
    zero = np.where(flat, np.float32(1), -offset / np.where(scale == 0, np.float32(1), scale))
    return GroupArrays(pack_nibbles(weights), scale.astype(np.float16), zero.astype(np.float16))


def _unpack_nibbles(data: Bytes, run: int) -> Bytes:
    """Unpack (n, bytes) -> (n, weights): `run` weights in the lower halves of as many bytes, then the upper ones."""
    runs = data.reshape(len(data), -1, 1, run)
    return np.concatenate([runs & 15, runs >> 4], 2).reshape(len(data), -1)


def _f16(data: Bytes) -> npt.NDArray[np.float16]:
    return np.ascontiguousarray(data).view(np.float16)
