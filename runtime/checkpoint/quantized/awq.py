"""AWQ in its GEMM layout: matrices packed along their rows, in an order of their own, as AutoAWQ stores them.

    qweight  I32 [columns, rows / 8]     codes
    qzeros   I32 [groups, rows / 8]      zero points
    scales   F16 [groups, rows]

From the lowest bits on, a word has the rows 0, 2, 4, 6, 1, 3, 5, 7 of eight.
https://github.com/casper-hansen/AutoAWQ, awq/modules/linear/gemm.py.
"""

from functools import cached_property

import numpy as np

from .config import Quantization
from .gptq import group_size
from .layout import Array, GroupLayout, QuantizedMatrix, StoredPart, pack_nibbles, unpack_words
from .module import ModuleTensors, as_f32, integers

_POSITIONS = (0, 4, 1, 5, 2, 6, 3, 7)  # of the rows 0 to 7 in a word
_BLOCK = 1 << 24  # codes that are transposed at a time


def read_awq(module: ModuleTensors, quantization: Quantization) -> QuantizedMatrix:
    """Return the matrix of a module. Raises CheckpointError."""
    codes, scales = module.matrix("qweight", "I32"), module.floats("scales")
    zeros = module.matrix("qzeros", "I32")
    columns, rows, groups = codes.raw.shape[0], codes.raw.shape[1] * 8, zeros.raw.shape[0]
    if scales.raw.shape != (groups, rows) or zeros.raw.shape[1] != codes.raw.shape[1] or columns % 2:
        raise module.invalid(
            f"qweight, qzeros and scales have the shapes {list(codes.raw.shape)}, {list(zeros.raw.shape)} and "
            f"{list(scales.raw.shape)[:8]}, not those of 4 bits"
        )
    layout = GroupLayout(columns, 4, group_size(module, quantization, columns, groups))
    return QuantizedMatrix(
        "AWQ int4", rows, layout, (codes, zeros, scales), lambda: _Rows(layout, codes, scales, zeros).read
    )


class _Rows:
    """Reads the records of rows; the codes are transposed once."""

    def __init__(self, layout: GroupLayout, codes: StoredPart, scales: StoredPart, zeros: StoredPart) -> None:
        self._layout, self._stored, self._scales, self._zeros = layout, codes, scales, zeros

    def read(self, first: int, end: int) -> Array:
        return self._layout.rows(self._codes[first:end], self._scale[first:end], self._zero[first:end])

    @cached_property
    def _codes(self) -> Array:
        columns, words = self._stored.raw.shape
        found = np.empty((words * 8, columns // 2), np.uint8)
        step = max(2, _BLOCK // (words * 8) // 2 * 2)
        for first in range(0, columns, step):
            codes = _in_order(np.asarray(self._stored.raw[first : first + step]))
            found[:, first // 2 : (first + step) // 2] = pack_nibbles(codes.T)
        return found

    @cached_property
    def _scale(self) -> Array:
        return np.ascontiguousarray(as_f32(self._scales).T)

    @cached_property
    def _zero(self) -> Array:
        return np.ascontiguousarray(_in_order(integers(self._zeros)).T)


def _in_order(words: Array) -> Array:
    """Unpack words (n, m) -> codes (n, 8m) in the order of the rows."""
    codes = unpack_words(words, 4)
    return codes.reshape(len(codes), -1, 8)[:, :, _POSITIONS].reshape(codes.shape)
