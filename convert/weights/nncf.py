"""The only importer of NNCF: for whole graphs `nncf.compress_weights`, for rows of a matrix NNCF's arithmetic.

`nncf.compress_weights` compiles its arithmetic anew for each matrix and runs it on all of it; its temporaries of
hundreds of MB are zeroed pages from the system, which take longer than the arithmetic. In blocks that fit the
processor's cache, with a function that is compiled once, a matrix takes less than half the time. Rows share nothing, so
the result is the same to the last bit.

Used beyond NNCF's documented functions, and each checked by tests/test_nncf.py:

- `weight_lowering.compress_weight` and `WeightCompressionConfig`: the arithmetic behind `compress_weights`, for rows;
- `weight_lowering.get_integer_quantization_error` and `tensor.functions.finfo`: the data-free sensitivity of a matrix;
- the names of what it puts into a graph: NAME, NAME/scale, NAME/zero_point, and `awq_mul` for AWQ's Multiply;
- the runtime info "nncf", where it records how a model was compressed;
- `logging.track_progress.track.__iter__`, which draws its progress bars, and its logger's name, "nncf": see
  `runtime.system.native_effects.quiet_nncf`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import Model, Node, PartialShape, Type
from openvino import opset13 as ops

from runtime.checkpoint.tensors import Tensor
from runtime.system.native_effects import quiet_nncf, raise_mmap_threshold, temporary_home

from ..graph import as_openvino
from ..recipe import SMALLEST_GROUP, Mode, Recipe

BLOCK = 1 << 21  # weights at a time: 8 MB in f32
_TYPES: dict[Mode, Type] = {
    "int4_sym": Type.i4,
    "int4_asym": Type.u4,
    "nf4": Type.nf4,
    "int8_sym": Type.i8,
    "int8_asym": Type.u8,
}
_PARTS = ("", "/scale", "/zero_point")  # what NNCF appends to the name of a matrix for each of its constants

Floats = npt.NDArray[np.float32]
CompressedBlock = dict[
    str, Any
]  # some rows' weights, scales and zero points, as bytes, by the names of their constants


class MatrixRows(Protocol):
    """A matrix that is read some rows at a time."""

    @property
    def name(self) -> str:
        """The tensor's canonical name."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        ...

    def rows(self, first: int, end: int) -> Tensor:
        """Return the rows from `first` up to, not including, `end`."""
        ...


def compress_rows(matrix: MatrixRows, mode: Mode, group_size: int) -> Iterator[CompressedBlock]:
    """Compress a matrix without data, block by block; each block is valid until the next one."""
    nncf = import_nncf()
    from nncf.quantization.algorithms.weight_compression.config import WeightCompressionConfig
    from nncf.quantization.algorithms.weight_compression.weight_lowering import compress_weight
    from nncf.tensor import Tensor as Values

    raise_mmap_threshold()  # else glibc returns the temporaries to the system after every few rows
    config, element = WeightCompressionConfig(nncf.CompressWeightsMode(mode), group_size), _TYPES[mode]
    for rows in row_blocks(matrix, BLOCK):
        found = compress_weight(Values(as_openvino(rows)), (1,), config)
        values = (found.tensor, element), (found.scale, Type.f16), (found.zero_point, element)
        parts = zip(_PARTS, values, strict=True)
        yield {matrix.name + part: _to_bytes(data, kind) for part, (data, kind) in parts if data is not None}


def row_blocks(matrix: MatrixRows, weights: int) -> Iterator[Tensor]:
    """Yield the rows of a matrix, about `weights` weights at a time; an even number of rows, so that a block of 4-bit
    weights ends with a whole byte."""
    rows = matrix.shape[0]
    step = max(2, weights // prod(matrix.shape[1:]) // 2 * 2)
    for first in range(0, rows, step):
        yield matrix.rows(first, first + step)


def _to_bytes(values: Any, element: Type) -> Any:
    """Return NNCF's values as the bytes of a constant; values that are not OpenVINO's are converted to `element`."""
    return values.data.data if isinstance(values.data, ov.Tensor) else ops.constant(values.data, element).data


def compress_matrix(source: Node, mode: str, options: Mapping[str, Any]) -> Model:
    """Compress a MatMul with this matrix. The embedding's Gather would get the same constants: one scale a row."""
    x = ops.parameter(PartialShape([-1, source.output(0).shape[1]]), Type.f32)
    return _compress_weights(Model([ops.result(ops.matmul(x, source, False, True))], [x], "weight"), mode, options)


def compressed_constants(model: Model, name: str) -> dict[str, Node]:
    """Return the constants of the compressed matrix `name` by their names: its weights, scales and zero points."""
    names = [name + part for part in _PARTS]
    return {op.get_friendly_name(): op for op in model.get_ops() if op.get_friendly_name() in names}


def whole_model_options(recipe: Recipe) -> dict[str, Any]:
    """Return the options of `nncf.compress_weights` that compress a whole decoder by the recipe."""
    if recipe.linear is None or recipe.linear.startswith("int8"):
        return {}
    nncf = import_nncf()
    return {
        "ratio": recipe.ratio,
        "group_size": recipe.group_size,
        "all_layers": recipe.embedding_and_head == recipe.linear,
        "backup_mode": nncf.BackupMode(recipe.backup),
        "advanced_parameters": nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=SMALLEST_GROUP
        ),
    }


def matrix_options(recipe: Recipe) -> dict[str, Any]:
    """Return the options for one matrix of an int4 recipe; without `all_layers`, NNCF would treat it as the head."""
    return whole_model_options(recipe) | {"ratio": 1.0, "all_layers": True}


def calibration_options(recipe: Recipe, inputs: Floats) -> dict[str, Any]:
    """Return the options of the recipe's data-aware methods for a matrix with these inputs (tokens, columns)."""
    nncf = import_nncf()
    if recipe.gptq:
        return {"gptq": True, "dataset": nncf.Dataset([inputs]), "scale_estimation": recipe.scale}
    if not recipe.scale:
        return {}
    scale = nncf.AdvancedScaleEstimationParameters(subset_size=len(inputs))
    advanced = replace(whole_model_options(recipe)["advanced_parameters"], scale_estimation_params=scale)
    return {"scale_estimation": True, "advanced_parameters": advanced} | _dataset_options(inputs)


def awq_factors(recipe: Recipe, matrix: Floats, inputs: Floats) -> Floats:
    """Return AWQ's factors for the columns of a matrix (rows, columns) with these inputs (tokens, columns): (columns).

    The matrix is to be multiplied by them, its inputs divided.
    """
    nncf = import_nncf()
    columns = matrix.shape[1]
    x = ops.parameter(PartialShape([-1, columns]), Type.f32)
    # NNCF applies AWQ only after an activation; this one changes nothing.
    activation = ops.clamp(x, np.finfo(np.float32).min, np.finfo(np.float32).max)
    product = ops.matmul(activation, ops.constant(matrix), False, True)
    options = matrix_options(recipe) | {"awq": True} | _dataset_options(inputs)
    awq_params = nncf.AdvancedAWQParameters(subset_size=len(inputs))
    options["advanced_parameters"] = replace(options["advanced_parameters"], awq_params=awq_params)
    model = _compress_weights(Model([ops.result(product)], [x], "awq"), str(recipe.linear), options)
    return np.asarray(1 / _inserted_factors(model, columns), np.float32)


def _dataset_options(inputs: Floats) -> dict[str, Any]:
    """Return the dataset for NNCF: each token is a sample of its own, since NNCF averages over a sample."""
    return {"dataset": import_nncf().Dataset(list(inputs[:, np.newaxis])), "subset_size": len(inputs)}


def _inserted_factors(model: Model, columns: int) -> Floats:
    """Return the factors of the Multiply that AWQ inserted into the graph; ones where it inserted none."""
    for op in model.get_ops():
        if op.get_type_name() == "Multiply" and "awq_mul" in op.get_friendly_name():
            (factors,) = (v.get_node() for v in op.input_values() if v.get_node().get_type_name() == "Constant")
            return np.asarray(factors.data, dtype=np.float32).reshape(columns)
    return np.ones(columns, np.float32)


def sensitivity_score(tensor: Tensor) -> float:
    """Return NNCF's data-free sensitivity of a matrix (its DataFreeCriterion): 1 over the worst row's int8 error."""
    import_nncf()
    from nncf.quantization.algorithms.weight_compression.config import WeightCompressionConfig
    from nncf.quantization.algorithms.weight_compression.weight_lowering import get_integer_quantization_error
    from nncf.tensor import Tensor as Values
    from nncf.tensor import functions

    error, eps = 0.0, 0.0
    for rows in row_blocks(tensor, BLOCK):
        block = Values(as_openvino(rows))
        found = get_integer_quantization_error(block, (1,), WeightCompressionConfig(), reduction="max_mean")
        error, eps = max(error, found), functions.finfo(block).eps
    return float(1 / (error + eps))


def record_compression(model: Model, recipe: Recipe) -> None:
    """Record in the model's runtime info how it was compressed, where and as NNCF does, for other tools."""
    if recipe.linear is None or recipe.keep_blocks:
        return
    # NNCF's own notes, copied from one small matrix.
    sample = compress_matrix(ops.constant(np.zeros((1, 128), np.float32)), recipe.linear, whole_model_options(recipe))
    methods = {"awq": recipe.awq, "scale_estimation": recipe.scale, "gptq": recipe.gptq or recipe.block_gptq}
    for key, value in sample.get_rt_info(["nncf", "weight_compression"]).value.items():
        model.set_rt_info(str(methods[key]) if methods.get(key) else value, ["nncf", "weight_compression", key])
    model.set_rt_info(sample.get_rt_info(["nncf", "version"]).value, ["nncf", "version"])


def _compress_weights(model: Model, mode: str, options: Mapping[str, Any]) -> Model:
    nncf = import_nncf()
    with quiet_nncf():
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode(mode), **options)


def import_nncf() -> Any:
    """Import NNCF, also for a user without a home folder, which it requires for later downloads."""
    with temporary_home():
        import nncf

    return nncf
