"""A tensor of a checkpoint: its shape, its place in the file, and how its values are read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .quantized.layout import GroupLayout, StoredPart

Dtype = Literal["bf16", "f16", "f32"]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor under its canonical name. bf16, which numpy lacks, is stored as its bits in uint16.

    `raw` is a `LazyArray`, which reads the file when it is converted to an array, or a view of a mapped file. If the
    tensor is quantized, `quantization` names its format, and `decode` turns any number of rows of `raw` into f32
    values. In a GGUF, the name is ggml's, and a row of `raw` its bytes; in a quantized checkpoint of the hub, a row of
    `raw` is a record of the `layout`, made of the file's tensors `parts`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    raw: Array
    decode: Callable[[Array], npt.NDArray[np.float32]] | None = None
    quantization: str = ""
    layout: GroupLayout | None = None
    parts: tuple[StoredPart, ...] = ()

    @property
    def data(self) -> Array:
        """The values in `dtype`: a view of a mapped file, otherwise a new array, read or decoded at each call."""
        raw = np.asarray(self.raw)  # reads an unmapped file
        return raw if self.decode is None else self.decode(raw)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.raw.nbytes

    @property
    def bits(self) -> int:
        """Bits per value of `data`."""
        return 32 if self.dtype == "f32" else 16

    @property
    def mappable(self) -> bool:
        """True if `data` is a view of the file that an engine can use in place while the file is open. After a header
        of odd length the view is not aligned, so it must be copied."""
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
        """The rows with these indices, copied."""
        return self._with_raw(self.raw[indices])

    def decoded(self) -> "Tensor":
        """The same tensor with quantized values decoded into memory, for repeated reads."""
        if self.decode is None:
            return self
        return replace(self, raw=self.data, decode=None, quantization="", layout=None, parts=())

    def _with_raw(self, raw: Array) -> "Tensor":
        return replace(self, shape=(len(raw), *self.shape[1:]), raw=raw)
