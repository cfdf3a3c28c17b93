"""GPTQ with a Hessian in diagonal blocks: rounding fitted to texts, in minutes where the whole Hessian takes hours.

GPTQ (https://arxiv.org/abs/2210.17323) rounds a matrix one column after another and moves each column's error into the
columns not rounded yet, by the inverse of the Hessian X^T X of the inputs X. Here an error stays within its block of
256 columns. The blocks share nothing, so they run side by side, and the Hessian of a matrix of 13,696 columns has 28 MB
in place of 1,500.

The weights become NNCF's int4_sym. The scale of a group of neighbours is chosen from their values at the time: NNCF's,
which represents the value of largest magnitude by -8, or a little less, whichever has the least error.

A block is transposed, so that a column is contiguous. The bytes do not depend on the number of threads: the work of a
thread is always the same rows and columns, and BLAS uses one thread for it.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.checkpoint.tensors import Tensor
from runtime.system.cores import usable_cores
from runtime.system.native_effects import one_blas_thread, raise_mmap_threshold

from .nncf import CompressedBlock, Floats, MatrixRows, row_blocks

BLOCK_COLUMNS = 256
ROWS = 4096  # of a block at a time: numpy's calls are long enough to cost little, and a column fits the L1 cache
_TILE = 16  # rows that are transposed at a time
_WIDTH = 16  # columns whose errors reach each other one by one, and those behind them all at once
_DAMPING = 0.1  # of the mean of the Hessian's diagonal, added to it
_SHRINKAGE = (1.0, 0.92, 0.85)  # of NNCF's scale, to choose from
_LOWEST, _HIGHEST = np.float32(-8), np.float32(7)
_SMALLEST_SCALE = np.float32(2**-24)  # of f16; for a group of zeros

Bytes = npt.NDArray[np.uint8]


class BlockHessian:
    """The Hessian of a matrix's inputs in diagonal blocks: the sum of x x^T over the inputs x."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.blocks = [
            np.zeros((width, width)) for width in np.diff([*range(0, columns, BLOCK_COLUMNS), columns]).tolist()
        ]

    def add(self, inputs: Floats) -> None:
        """Add inputs: (tokens, columns)."""
        with one_blas_thread():
            for number, block in enumerate(self.blocks):
                x = inputs[:, number * BLOCK_COLUMNS :][:, : len(block)]
                np.add(block, x.T @ x, out=block)


class _Block(NamedTuple):
    """What the rounding of a block of columns needs: the Hessian's diagonal, and the upper Cholesky factor of its
    inverse."""

    diagonal: Floats
    factor: Floats


def _factorize(hessian: npt.NDArray[np.float64]) -> _Block:
    """Damp a block of the Hessian, invert and factorize it."""
    damping = _DAMPING * hessian.diagonal().mean() or 1.0  # 1 where no input was ever other than 0
    damped = hessian + damping * np.eye(len(hessian))
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    return _Block(damped.diagonal().astype(np.float32), np.ascontiguousarray(factor, np.float32))


def fitted_rows(matrix: MatrixRows, hessian: BlockHessian, group: int) -> Iterator[CompressedBlock]:
    """Compress a matrix to int4_sym in groups of `group` columns, which divide a block; some rows at a time."""
    raise_mmap_threshold()  # else glibc returns the temporaries to the system after each block
    with ThreadPoolExecutor(usable_cores()) as pool:
        with one_blas_thread():
            blocks = list(pool.map(_factorize, hessian.blocks))
        for rows in row_blocks(matrix, ROWS * matrix.shape[1]):
            with one_blas_thread():
                found = list(pool.map(partial(_fit_block, _Values(rows), group), range(len(blocks)), blocks))
            codes, scales = (np.concatenate(parts, 1) for parts in zip(*found, strict=True))
            yield {matrix.name: codes, matrix.name + "/scale": scales.view(np.uint8)}


class _Values:
    """The values of some rows of a matrix, by blocks of columns. They are read once, and become f32 block by block."""

    def __init__(self, rows: Tensor) -> None:
        self._data, self._dtype = rows.data, rows.dtype

    def transposed(self, number: int, width: int) -> Floats:
        """Return a block, transposed, in f32: (columns, rows)."""
        columns = slice(number * BLOCK_COLUMNS, number * BLOCK_COLUMNS + width)
        found = np.empty((width, len(self._data)), np.float32)
        for first in range(0, len(self._data), _TILE):
            tile = self._data[first : first + _TILE, columns].T
            if self._dtype == "bf16":  # the upper half of f32
                np.left_shift(tile, 16, out=found[:, first : first + _TILE].view(np.uint32), dtype=np.uint32)
            else:
                found[:, first : first + _TILE] = tile
        return found


def _fit_block(values: _Values, group: int, number: int, block: _Block) -> tuple[Bytes, npt.NDArray[np.float16]]:
    """Round a block; return its rows' codes, two a byte, and their scales."""
    weights = values.transposed(number, len(block.diagonal))
    columns, rows = weights.shape
    errors, codes = np.empty_like(weights), np.empty(weights.shape, np.int8)
    scales = np.empty((columns // group, rows), np.float16)
    for first in range(0, columns, group):
        end = first + group
        here = weights[first:end]
        if first:
            here -= block.factor[:first, first:end].T @ errors[:first]
        scale = _choose_scale(here, block.diagonal[first:end])
        scales[first // group] = scale
        _round_group(here, scale, block.factor[first:end, first:end], errors[first:end], codes[first:end])
    pairs: Bytes = codes.view(np.uint8).reshape(-1, 2, rows)
    packed = (pairs[:, 0] & 15) | (pairs[:, 1] << 4)
    return np.ascontiguousarray(packed.T, np.uint8), np.ascontiguousarray(scales.T)


def _choose_scale(weights: Floats, importance: Floats) -> Floats:
    """Return the scale of each row, representable in f16, with the least squared error, weighted by the importance of
    the columns: (columns, rows), (columns) -> (rows)."""
    low, high = weights.min(0), weights.max(0)
    extreme = np.where(-low >= high, low, high) / _LOWEST
    candidates = [(np.float32(part) * extreme).astype(np.float16).astype(np.float32) for part in _SHRINKAGE]
    for scale in candidates:
        scale[scale == 0] = _SMALLEST_SCALE
    errors = np.zeros((len(candidates), weights.shape[1]), np.float32)
    rounded = np.empty((_WIDTH, weights.shape[1]), np.float32)
    for first in range(0, len(weights), _WIDTH):  # as much as the L2 cache has place for
        here = weights[first : first + _WIDTH]
        for number, scale in enumerate(candidates):
            np.multiply(here, 1 / scale, out=rounded)
            _clip_to_int4(rounded)
            np.multiply(rounded, scale, out=rounded)
            np.subtract(here, rounded, out=rounded)
            np.square(rounded, out=rounded)
            errors[number] += importance[first : first + _WIDTH] @ rounded
    best = errors.argmin(0)
    return np.asarray(np.choose(best, candidates))


def _round_group(weights: Floats, scale: Floats, factor: Floats, errors: Floats, codes: npt.NDArray[np.int8]) -> None:
    """Round the columns of a group, in turn; write their codes, and their errors as later columns are to have them."""
    inverse = 1 / scale
    column, moved = np.empty_like(scale), np.empty_like(scale)
    for first in range(0, len(weights), _WIDTH):
        if first:
            weights[first : first + _WIDTH] -= factor[:first, first : first + _WIDTH].T @ errors[:first]
        for j in range(first, first + _WIDTH):
            here = weights[j]
            if j > first:
                here -= np.matmul(factor[first:j, j], errors[first:j], out=moved)
            np.multiply(here, inverse, out=column)
            _clip_to_int4(column)
            codes[j] = column
            np.multiply(column, scale, out=column)
            np.subtract(here, column, out=column)
            np.multiply(column, 1 / factor[j, j], out=errors[j])


def _clip_to_int4(values: Floats) -> None:
    """Round values in units of their scale, in place."""
    np.rint(values, out=values)
    np.maximum(values, _LOWEST, out=values)
    np.minimum(values, _HIGHEST, out=values)
