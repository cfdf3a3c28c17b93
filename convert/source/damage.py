"""Damage that a checkpoint's headers do not show: zeros where bytes never came, NaN and infinity.

A download that broke off may leave a file of the right size, and verification would compare the damage with itself.
Trained weights have zeros here and there, but not thousands in a row, except in rows that nobody reads: ids beyond the
tokenizer, and added tokens that were not trained. Weights are searched as they lie in the file: in every quantised
format a block of zero bytes is a block of zeros.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime.checkpoint.tensors import Tensor
from runtime.checkpoint.tokenizer import CheckpointTokenizer
from runtime.errors import CheckpointError, VerificationError

from ..weights.compress import EMBEDDING, HEAD

Bytes = npt.NDArray[np.uint8]

_LONG = 2048  # bytes of zeros in a row; half of a page, which is what a missing page leaves in one of two tensors
_STEP = 512  # bytes from one look to the next
_LOOK = 8  # bytes
_AT_ONCE = 1 << 21  # values, 4 to 8 MB: the second look at them finds them in the cache
_READ_AT_ONCE = 1 << 24  # bytes
_NORM_RUN, _NORM_SHARE = 16, 8  # zeros in a row, and the part of a norm, that no training leaves
_DAMAGED = "download this file again; if that does not help, its weights were damaged before they were published"
# The largest finite value as an integer of the same bytes, by dtype; above it are infinity and NaN.
_FINITE: dict[str, tuple[npt.DTypeLike, npt.DTypeLike, int]] = {
    "bf16": (np.int16, np.uint16, 0x7F7F),
    "f16": (np.int16, np.uint16, 0x7BFF),
    "f32": (np.int32, np.uint32, 0x7F7FFFFF),
}
# Where a block of ggml has its scales and offsets in f16, and its size, in bytes: ggml-common.h.
_SCALES = {
    "Q4_0": (0, 2, 18),
    "Q4_1": (0, 4, 20),
    "Q5_0": (0, 2, 22),
    "Q5_1": (0, 4, 24),
    "Q8_0": (0, 2, 34),
    "Q2_K": (80, 84, 84),
    "Q3_K": (108, 110, 110),
    "Q4_K": (0, 4, 144),
    "Q5_K": (0, 4, 176),
    "Q6_K": (208, 210, 210),
    "IQ4_NL": (0, 2, 18),
    "IQ4_XS": (0, 2, 136),
}


class Source(Protocol):
    """A checkpoint, or whatever else knows where its tensors lie."""

    def describe_location(self, name: str) -> str: ...


class Damage:
    """Looks for damage in the weights of a checkpoint, one tensor at a time."""

    def __init__(self, source: Source, tokenizer: CheckpointTokenizer) -> None:
        self._source = source
        added = set(tokenizer.special_tokens.values())
        self._used = np.array(sorted(set(tokenizer.tokenizer.get_vocab(with_added_tokens=False).values()) - added))

    def refuse(self, tensor: Tensor) -> None:
        """Raises CheckpointError for zeros, VerificationError for NaN, naming the tensor and its file. Reads all of it:
        about 0.3 seconds a gigabyte."""
        if isinstance(tensor.raw, np.ndarray):
            self._refuse(tensor, 0, tensor.nbytes)
            return
        rows = len(tensor.raw)
        count = max(1, min(rows, -(-tensor.nbytes // _READ_AT_ONCE)))  # pieces of equal size: no small one is left over
        for first, end in pairwise(rows * number // count for number in range(count + 1)):
            part = tensor.rows(first, end)
            self._refuse(replace(part, raw=np.asarray(part.raw)), first, tensor.nbytes)

    def _refuse(self, tensor: Tensor, first: int, total: int) -> None:
        """The same of some rows, from the row `first` on, of a tensor of `total` bytes."""
        if not (_scales_finite(tensor) if tensor.gguf_type else all_finite(tensor.raw, tensor.dtype)):
            where = self._source.describe_location(tensor.name)
            raise VerificationError(f"the checkpoint itself answers NaN: {where} has NaN or infinity", hint=_DAMAGED)
        if tensor.name.endswith(".bias"):  # may be zero
            return
        if len(tensor.shape) == 1:
            self.refuse_norm(tensor.name, tensor.f32())
            return
        if tensor.name in (EMBEDDING, HEAD):
            self._refuse_rows(tensor, first)
        for piece in self._pieces(tensor, first):
            if found := zero_run(piece):
                raise self._damaged(tensor.name, f"has {found:,} bytes of zeros in a row, of {total:,}")

    def refuse_norm(self, name: str, weights: npt.NDArray[Any]) -> None:
        """The same for the weights of a norm."""
        zero = weights.reshape(-1) == 0
        run = min(_NORM_RUN, len(zero))
        if zero.sum() * _NORM_SHARE > len(zero) or np.convolve(zero, np.ones(run, int)).max() >= run:
            raise self._damaged(name, f"is a norm of which {zero.sum():,} of {len(zero):,} weights are zero")

    def _refuse_rows(self, tensor: Tensor, first: int) -> None:
        """A row for each token: those of tokens in use are not zero."""
        rows = tensor.raw
        beginnings = np.ascontiguousarray(rows[:, : max(1, _LOOK // rows.itemsize)])
        empty = np.flatnonzero(~beginnings.any(1))
        zero = [int(row) for row in empty[np.isin(empty + first, self._used)] if not rows[row].any()]
        if zero:
            raise self._damaged(
                tensor.name, f"is zero for {len(zero):,} tokens in use, the first being {first + zero[0]:,}"
            )

    def _pieces(self, tensor: Tensor, first: int) -> Iterator[Bytes]:
        """The bytes of a matrix in the order of the file; of the embedding and the head, those for tokens in use."""
        stored = tensor.raw
        turned = stored.flags.f_contiguous and not stored.flags.c_contiguous
        if tensor.name not in (EMBEDDING, HEAD):
            yield _bytes(stored.T if turned else stored)
            return
        used = self._used[(self._used >= first) & (self._used < first + len(stored))] - first
        for ids in np.split(used, np.flatnonzero(np.diff(used) > 1) + 1):
            rows = stored[ids[0] : ids[-1] + 1] if len(ids) else stored[:0]
            yield from map(_bytes, rows.T if turned else [rows])

    def _damaged(self, name: str, what: str) -> CheckpointError:
        return CheckpointError(f"{self._source.describe_location(name)} {what}: it is damaged", hint=_DAMAGED)


def all_finite(stored: npt.NDArray[Any], dtype: str) -> bool:
    """Return whether no value is NaN or infinite: as integers of the same bytes, those are the largest of a sign."""
    signed, unsigned, largest = _FINITE[dtype]
    lying = stored.T if stored.flags.f_contiguous else stored
    flat = np.ascontiguousarray(lying).reshape(-1).view(unsigned)
    for first in range(0, flat.size, _AT_ONCE):
        part = flat[first : first + _AT_ONCE]
        if part.view(signed).max() > largest or part.max() > largest + np.iinfo(signed).max + 1:
            return False
    return True


def _scales_finite(tensor: Tensor) -> bool:
    """The same of the scales of quantised blocks; of formats that are not known here, the verification finds NaN."""
    if tensor.gguf_type not in _SCALES:
        return True
    begin, end, size = _SCALES[tensor.gguf_type]
    scales = np.ascontiguousarray(_bytes(tensor.raw).reshape(-1, size)[:, begin:end])
    return all_finite(scales.view(np.float16), "f16")


def zero_run(stored: Bytes) -> int:
    """The length of the first run of at least `_LONG` zero bytes, or of all bytes where there are fewer; 0 for none.

    Looks at a few bytes every `_STEP`; only where those are zero, at the bytes between them.
    """
    if len(stored) < _LONG:
        return 0 if stored.any() else len(stored)
    looks = len(stored) // _STEP
    seen = stored[: looks * _STEP].reshape(looks, _STEP)[:, :_LOOK].any(1)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], seen, [True]])))  # a stretch begins, a stretch ends, …
    for first, last in edges.reshape(-1, 2):
        if (last - first + 1) * _STEP < _LONG:
            continue
        begin, end = max(0, int(first) - 1) * _STEP, min(len(stored), (int(last) + 1) * _STEP)
        for at in range(begin, end, _AT_ONCE):
            window = stored[at : min(end, at + _AT_ONCE + _LONG)]
            runs = np.flatnonzero(np.diff(np.concatenate([[1], window != 0, [1]]))).reshape(-1, 2)
            lengths = runs[:, 1] - runs[:, 0]
            if len(runs) and lengths.max() >= _LONG:
                start = at + int(runs[lengths.argmax(), 0])
                return _end(stored, start) - start
    return 0


def _end(stored: Bytes, begin: int) -> int:
    """Where the zeros from `begin` on end."""
    for at in range(begin, len(stored), _AT_ONCE):
        found = stored[at : at + _AT_ONCE] != 0
        if found.any():
            return at + int(found.argmax())
    return len(stored)


def _bytes(stored: npt.NDArray[Any]) -> Bytes:
    return np.ascontiguousarray(stored).reshape(-1).view(np.uint8)
