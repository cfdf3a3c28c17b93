"""NNCF's two doors: a whole graph, as everybody takes it, and rows of a matrix, by the function behind that.

`nncf.compress_weights` compiles its arithmetic anew for each matrix and runs it on all of it: its temporaries of
hundreds of MB are zeroed pages from the system, which take longer than the arithmetic. In blocks that fit the
processor's cache, by a function that is compiled once, a matrix takes less than half the time. Rows share nothing, so
the result is the same to the last bit.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import openvino as ov
from openvino import Model, Node, PartialShape, Type
from openvino import opset13 as ops

from runtime.checkpoint.tensors import Tensor
from runtime.system.native_effects import quiet_nncf, raise_mmap_threshold, temporary_home

from ..graph import as_openvino
from ..recipe import Mode

BLOCK = 1 << 21  # weights at a time: 8 MB in f32
_TYPES: dict[Mode, Type] = {"int4_sym": Type.i4, "int4_asym": Type.u4, "int8_sym": Type.i8, "int8_asym": Type.u8}


class Rows(Protocol):
    """A matrix, of which some rows at a time are read."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def rows(self, first: int, end: int) -> Tensor: ...


Part = dict[str, Any]  # the bytes of some rows' weights, scales and zero points, by the names of their constants


def quantised(matrix: Rows, mode: Mode, group_size: int) -> Iterator[Part]:
    """The parts of a matrix, without data; each is valid until the next one."""
    nncf = import_nncf()
    from nncf.quantization.algorithms.weight_compression.config import WeightCompressionConfig
    from nncf.quantization.algorithms.weight_compression.weight_lowering import compress_weight
    from nncf.tensor import Tensor as Values

    raise_mmap_threshold()  # else glibc returns the temporaries to the system after every few rows
    config, kind = WeightCompressionConfig(nncf.CompressWeightsMode(mode), group_size), _TYPES[mode]
    for rows in blocks(matrix, BLOCK):
        found = compress_weight(Values(as_openvino(rows)), (1,), config)
        part = {matrix.name: _bytes(found.tensor, kind), matrix.name + "/scale": _bytes(found.scale, Type.f16)}
        if found.zero_point is not None:
            part[matrix.name + "/zero_point"] = _bytes(found.zero_point, kind)
        yield part


def blocks(matrix: Rows, weights: int) -> Iterator[Tensor]:
    """Its rows, about so many weights at a time; as many as end with a byte where they have four bits."""
    rows, columns = matrix.shape
    step = max(2, weights // columns // 2 * 2)
    for first in range(0, rows, step):
        yield matrix.rows(first, first + step)


def _bytes(values: Any, kind: Type) -> Any:
    """NNCF's values as it makes a constant of them: what is no tensor of OpenVINO's has another type yet."""
    return values.data.data if isinstance(values.data, ov.Tensor) else ops.constant(values.data, kind).data


def compressed_alone(source: Node, mode: str, options: Mapping[str, Any]) -> Model:
    """A MatMul with this matrix, compressed. The embedding's Gather would come out the same: a scale a row."""
    nncf = import_nncf()
    x = ops.parameter(PartialShape([-1, source.output(0).shape[1]]), Type.f32)
    model = Model([ops.result(ops.matmul(x, source, False, True))], [x], "weight")
    with quiet_nncf():
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode(mode), **options)


def import_nncf() -> Any:
    """Import NNCF. At that moment it needs a home folder, for what it may download later."""
    with temporary_home():
        import nncf

    return nncf
