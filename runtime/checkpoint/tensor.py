"""A tensor of a checkpoint: where it lies in its file, and how its values are had from there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Dtype = Literal["bf16", "f16", "f32"]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor under its canonical name. `raw` is `LazyArray` of its file, read when an array is made of them, or a view
    of a mapped file; bf16 comes as its bits, in uint16.

    Where the file holds blocks of quantised weights, `raw` has the bytes of each row, `decode` makes f32 values of
    any number of rows, and `gguf_type` is ggml's name of their format.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    raw: Array
    decode: Callable[[Array], npt.NDArray[np.float32]] | None = None
    gguf_type: str = ""

    @property
    def data(self) -> Array:
        """The values, in `dtype`: the view itself, or, read or decoded anew at each call, a new array."""
        raw = np.asarray(self.raw)  # reads what is not mapped
        return raw if self.decode is None else self.decode(raw)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.raw.nbytes

    @property
    def bits(self) -> int:
        """Bits that a value of `data` has."""
        return 32 if self.dtype == "f32" else 16

    @property
    def mappable(self) -> bool:
        """Whether `data` is a view of the file, to be used in place for as long as that is open. A header of odd length
        leaves views at odd addresses, which nobody can."""
        flags = self.raw.flags
        return self.decode is None and flags.aligned and flags.c_contiguous and not flags.owndata

    def f32(self) -> npt.NDArray[np.float32]:
        """The values as a new float32 array. Exact: bf16 is the upper half of a float32."""
        if self.dtype == "bf16":
            return (self.data.astype(np.uint32) << 16).view(np.float32)
        return self.data.astype(np.float32)

    def rows(self, first: int, end: int) -> "Tensor":
        """Rows `first` to `end` (not included) as a view."""
        return self._with_raw(self.raw[first:end])

    def gather(self, indices: npt.NDArray[np.integer[Any]]) -> "Tensor":
        """Those rows, copied."""
        return self._with_raw(self.raw[indices])

    def decoded(self) -> "Tensor":
        """The same, its values in memory if they were quantised: for those who read them several times."""
        return self if self.decode is None else replace(self, raw=self.data, decode=None, gguf_type="")

    def _with_raw(self, raw: Array) -> "Tensor":
        return replace(self, shape=(len(raw), *self.shape[1:]), raw=raw)
