"""A check for damage that a checkpoint's headers do not show: runs of zeros, NaN and infinity.

An interrupted download may leave a file of the right size, and verification would compare the damage with itself.
Trained weights have single zeros, but not thousands in a row, except in rows that are never read: ids beyond the
tokenizer, and added tokens that were not trained. Bytes are checked as they are in the file: in every quantised format,
a block of zero bytes is a block of zeros.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime.checkpoint.quantized.layout import StoredPart
from runtime.checkpoint.tensors import Tensor
from runtime.checkpoint.tokenizer import CheckpointTokenizer
from runtime.errors import CheckpointError, VerificationError
from runtime.text import quoted

from ..graph import EMBEDDING, HEAD

Bytes = npt.NDArray[np.uint8]

_ZERO_RUN = 2048  # bytes of zeros in a row: half of a page, since a missing page may be shared by two tensors
_PROBE_STRIDE = 512  # bytes from one probe to the next
_PROBE_BYTES = 8
_CACHED_VALUES = 1 << 21  # values, 4 to 8 MB: their second pass finds them in the processor's cache
_READ_BYTES = 1 << 24
_NORM_RUN, _NORM_SHARE = 16, 8  # more zeros than these, in a row or as a part of the norm (1/8), are damage
_DAMAGE_HINT = "download this file again; if that does not help, its weights were damaged before they were published"
# The largest finite value as an integer of the same bytes, by dtype; above it are infinity and NaN.
_LARGEST_FINITE: dict[str, tuple[npt.DTypeLike, npt.DTypeLike, int]] = {
    "bf16": (np.int16, np.uint16, 0x7F7F),
    "f16": (np.int16, np.uint16, 0x7BFF),
    "f32": (np.int32, np.uint32, 0x7F7FFFFF),
}
_FLOATS = ("BF16", "F16", "F32")  # safetensors' names
# The bytes of a ggml block that contain its f16 scales and offsets, from and to, and its size: ggml-common.h.
_SCALE_BYTES = {
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


class TensorLocator(Protocol):
    """Tensors whose place in a file is known."""

    def describe_location(self, name: str) -> str:
        """Return the tensor's name in its file, and the file, for messages."""
        ...


class DamageCheck:
    """A check of a checkpoint's weights for damage, one tensor at a time."""

    def __init__(self, source: TensorLocator, tokenizer: CheckpointTokenizer) -> None:
        self._source = source
        added = set(tokenizer.special_tokens.values())
        self._used_ids = np.array(sorted(set(tokenizer.tokenizer.get_vocab(with_added_tokens=False).values()) - added))

    def check(self, tensor: Tensor) -> None:
        """Raise CheckpointError for zeros and VerificationError for NaN, naming the tensor and its file. Reads all of
        it: about 0.3 seconds a gigabyte."""
        if tensor.parts:
            for part in tensor.parts:
                self._check_part(part)
            return
        if isinstance(tensor.raw, np.ndarray):
            self._check_block(tensor, 0, tensor.nbytes)
            return
        rows = len(tensor.raw)
        count = max(1, min(rows, -(-tensor.nbytes // _READ_BYTES)))  # blocks of equal size: no small one is left over
        for first, end in pairwise(rows * number // count for number in range(count + 1)):
            part = tensor.rows(first, end)
            self._check_block(replace(part, raw=np.asarray(part.raw)), first, tensor.nbytes)

    def _check_part(self, part: StoredPart) -> None:
        """Check a tensor of the file that a quantised matrix is made of: floats for NaN, codes for zeros."""
        rows = len(part.raw)
        count = max(1, min(rows, -(-part.raw.nbytes // _READ_BYTES)))
        for first, end in pairwise(rows * number // count for number in range(count + 1)):
            stored = np.asarray(part.raw[first:end])
            if part.dtype in _FLOATS and not all_finite(stored, part.dtype.lower()):
                raise VerificationError(
                    f"the checkpoint's own logits are NaN: {quoted(part.name)} in {part.file} has NaN or infinity",
                    hint=_DAMAGE_HINT,
                )
            if part.is_dense and (found := zero_run(_bytes(stored))):
                raise CheckpointError(
                    f"{quoted(part.name)} in {part.file} has {found:,} bytes of zeros in a row, of "
                    f"{part.raw.nbytes:,}: it is damaged",
                    hint=_DAMAGE_HINT,
                )

    def _check_block(self, tensor: Tensor, first: int, total: int) -> None:
        """Check some rows, from the row `first` on, of a tensor of `total` bytes."""
        if not (_scales_finite(tensor) if tensor.quantization else all_finite(tensor.raw, tensor.dtype)):
            where = self._source.describe_location(tensor.name)
            raise VerificationError(
                f"the checkpoint's own logits are NaN: {where} has NaN or infinity", hint=_DAMAGE_HINT
            )
        if tensor.name.endswith(".bias"):  # may be zero
            return
        if len(tensor.shape) == 1:
            self.check_norm(tensor.name, tensor.f32())
            return
        if tensor.name in (EMBEDDING, HEAD):
            self._check_token_rows(tensor, first)
        for piece in self._byte_runs(tensor, first):
            if found := zero_run(piece):
                raise self._damage_error(tensor.name, f"has {found:,} bytes of zeros in a row, of {total:,}")

    def check_norm(self, name: str, weights: npt.NDArray[Any]) -> None:
        """Check the weights of a norm."""
        zero = weights.reshape(-1) == 0
        run = min(_NORM_RUN, len(zero))
        if zero.sum() * _NORM_SHARE > len(zero) or np.convolve(zero, np.ones(run, int)).max() >= run:
            raise self._damage_error(name, f"is a norm of which {zero.sum():,} of {len(zero):,} weights are zero")

    def _check_token_rows(self, tensor: Tensor, first: int) -> None:
        """Check the rows of the embedding or the head: those of tokens in use are not zero."""
        rows = tensor.raw
        beginnings = np.ascontiguousarray(rows[:, : max(1, _PROBE_BYTES // rows.itemsize)])
        empty = np.flatnonzero(~beginnings.any(1))
        zero = [int(row) for row in empty[np.isin(empty + first, self._used_ids)] if not rows[row].any()]
        if zero:
            raise self._damage_error(
                tensor.name, f"is zero for {len(zero):,} tokens in use, the first being {first + zero[0]:,}"
            )

    def _byte_runs(self, tensor: Tensor, first: int) -> Iterator[Bytes]:
        """Yield a matrix's bytes in the order of the file; of the embedding and the head, those of tokens in use."""
        stored = tensor.raw
        transposed = stored.flags.f_contiguous and not stored.flags.c_contiguous
        if tensor.name not in (EMBEDDING, HEAD):
            yield _bytes(stored.T if transposed else stored)
            return
        used = self._used_ids[(self._used_ids >= first) & (self._used_ids < first + len(stored))] - first
        for ids in np.split(used, np.flatnonzero(np.diff(used) > 1) + 1):
            rows = stored[ids[0] : ids[-1] + 1] if len(ids) else stored[:0]
            yield from map(_bytes, rows.T if transposed else [rows])

    def _damage_error(self, name: str, what: str) -> CheckpointError:
        return CheckpointError(f"{self._source.describe_location(name)} {what}: it is damaged", hint=_DAMAGE_HINT)


def all_finite(stored: npt.NDArray[Any], dtype: str) -> bool:
    """Return whether no value is NaN or infinite: as integers, those are the largest of either sign."""
    signed, unsigned, largest = _LARGEST_FINITE[dtype]
    contiguous = stored.T if stored.flags.f_contiguous else stored
    flat = np.ascontiguousarray(contiguous).reshape(-1).view(unsigned)
    for first in range(0, flat.size, _CACHED_VALUES):
        part = flat[first : first + _CACHED_VALUES]
        if part.view(signed).max() > largest or part.max() > largest + np.iinfo(signed).max + 1:
            return False
    return True


def _scales_finite(tensor: Tensor) -> bool:
    """Return whether the scales of quantised blocks are finite; other formats are left to the verification."""
    if tensor.quantization not in _SCALE_BYTES:
        return True
    begin, end, size = _SCALE_BYTES[tensor.quantization]
    scales = np.ascontiguousarray(_bytes(tensor.raw).reshape(-1, size)[:, begin:end])
    return all_finite(scales.view(np.float16), "f16")


def zero_run(stored: Bytes) -> int:
    """Return the length of the first run of `_ZERO_RUN` or more zero bytes, or of all bytes if there are fewer; else 0.

    Probes a few bytes every `_PROBE_STRIDE`, and reads the bytes between only where those are zero.
    """
    if len(stored) < _ZERO_RUN:
        return 0 if stored.any() else len(stored)
    probes = len(stored) // _PROBE_STRIDE
    nonzero = stored[: probes * _PROBE_STRIDE].reshape(probes, _PROBE_STRIDE)[:, :_PROBE_BYTES].any(1)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], nonzero, [True]])))  # a run of zero probes begins, ends, …
    for first, last in edges.reshape(-1, 2):
        if (last - first + 1) * _PROBE_STRIDE < _ZERO_RUN:
            continue
        begin, end = max(0, int(first) - 1) * _PROBE_STRIDE, min(len(stored), (int(last) + 1) * _PROBE_STRIDE)
        for at in range(begin, end, _CACHED_VALUES):
            window = stored[at : min(end, at + _CACHED_VALUES + _ZERO_RUN)]
            runs = np.flatnonzero(np.diff(np.concatenate([[1], window != 0, [1]]))).reshape(-1, 2)
            lengths = runs[:, 1] - runs[:, 0]
            if len(runs) and lengths.max() >= _ZERO_RUN:
                start = at + int(runs[lengths.argmax(), 0])
                return _zeros_end(stored, start) - start
    return 0


def _zeros_end(stored: Bytes, begin: int) -> int:
    """Return where the zeros from `begin` on end."""
    for at in range(begin, len(stored), _CACHED_VALUES):
        found = stored[at : at + _CACHED_VALUES] != 0
        if found.any():
            return at + int(found.argmax())
    return len(stored)


def _bytes(stored: npt.NDArray[Any]) -> Bytes:
    return np.ascontiguousarray(stored).reshape(-1).view(np.uint8)
