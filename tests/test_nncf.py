"""What convert/weights/nncf.py uses of NNCF beyond its documented functions: a version that changes it fails here."""

import inspect

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from convert.graph import as_openvino
from convert.recipe import RECIPES
from convert.weights.nncf import (
    awq_factors,
    compress_matrix,
    compress_rows,
    compressed_constants,
    import_nncf,
    matrix_options,
    record_compression,
    sensitivity_score,
)
from runtime.checkpoint.tensor import Tensor

VALUES = np.random.default_rng(5).standard_normal((6, 256), np.float32)
MATRIX = Tensor("m", VALUES.shape, "f32", VALUES)


def node(values):
    found = ops.constant(values)
    found.set_friendly_name("m")
    return found


def weight_compression():
    import_nncf()
    from nncf.quantization.algorithms.weight_compression import config, weight_lowering

    return config, weight_lowering


def compress_weight():
    config, lowering = weight_compression()
    assert list(inspect.signature(lowering.compress_weight).parameters)[:3] == ["weight", "reduction_axes", "config"]
    assert list(inspect.signature(config.WeightCompressionConfig).parameters)[:2] == ["mode", "group_size"]
    for mode, group in (("int4_sym", 128), ("int4_asym", 64), ("int8_asym", -1)):
        options = matrix_options(RECIPES["int4"]) | {"group_size": group} if mode.startswith("int4") else {}
        graph = compressed_constants(compress_matrix(node(VALUES), mode, options), "m")
        (rows,) = compress_rows(MATRIX, mode, group)
        assert rows.keys() == graph.keys()
        for name, data in rows.items():
            assert np.asarray(data).tobytes() == graph[name].data.tobytes(), (mode, name)


def get_integer_quantization_error():
    _, lowering = weight_compression()
    assert "reduction" in inspect.signature(lowering.get_integer_quantization_error).parameters
    from nncf.tensor import Tensor as Values
    from nncf.tensor import functions

    eps = functions.finfo(Values(as_openvino(MATRIX))).eps
    flat = np.tile(np.float32([-1, 1]), (2, 64))  # exact in int8
    exact, rounded = sensitivity_score(Tensor("m", flat.shape, "f32", flat)), sensitivity_score(MATRIX)
    assert 1 < rounded < exact <= 1 / eps


def names_of_constants():
    model = compress_matrix(node(VALUES), "int4_asym", matrix_options(RECIPES["int4"]))
    assert compressed_constants(model, "m").keys() == {"m", "m/scale", "m/zero_point"}
    kinds = {op.get_type_name() for op in model.get_ops()}
    assert kinds == {"Parameter", "Constant", "Convert", "Subtract", "Multiply", "Reshape", "MatMul", "Result"}


def name_of_awq_s_multiply():
    inputs = np.abs(np.random.default_rng(6).standard_normal((8, 256), np.float32))
    inputs[:, :4] *= 100  # columns that AWQ scales
    assert not np.allclose(awq_factors(RECIPES["int4-awq"], VALUES, inputs), 1)


def runtime_info():
    model = ov.Model([ops.result(node(VALUES))], [], "m")
    record_compression(model, RECIPES["int4-awq"])
    notes = model.get_rt_info(["nncf", "weight_compression"]).value
    assert {"mode", "group_size", "ratio", "awq", "scale_estimation", "gptq"} <= notes.keys()
    assert str(notes["awq"]) == "True"
    assert model.get_rt_info(["nncf", "version"]).value


USED = (
    compress_weight,
    get_integer_quantization_error,
    names_of_constants,
    name_of_awq_s_multiply,
    runtime_info,
)


@pytest.mark.parametrize("used", USED, ids=lambda used: used.__name__)
def test_nncf_has_the_internals_that_we_use(used):
    used()
