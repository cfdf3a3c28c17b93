"""The recipe int4-fit: GPTQ in diagonal blocks, by its arithmetic, its bytes, and what it is worth."""

from dataclasses import replace

import numpy as np
import openvino as ov
import pytest

from convert.check import divergence as quality
from convert.check import layerwise, reference
from convert.graph import EMBEDDING, HEAD
from convert.output.ir_writer import IrWriter
from convert.output.journal import Journal
from convert.pipeline import convert
from convert.recipe import RECIPES, get_recipe
from convert.weights import block_gptq
from convert.weights.activations import Activations
from convert.weights.block_gptq import BlockHessian, fitted_rows
from convert.weights.calibration import at_most
from convert.weights.compress import compress
from edge.demo import CHECKPOINT
from edge.evaluation.target import EvaluationTarget
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.tensors import CheckpointTensors, Tensor
from runtime.errors import ConversionError

from .checkpoints import Tiny

FIT = RECIPES["int4-fit"]
TEXTS = [np.random.default_rng(3).integers(0, 160, length) for length in (70, 3, 110)]


def plain_gptq(weights, inputs, group):
    """The algorithm in f64, a column at a time over a whole block: codes and scales."""
    rows, columns = weights.shape
    codes, scales = np.empty((rows, columns), np.int8), np.empty((rows, columns // group), np.float16)
    for first in range(0, columns, 256):
        x, w = inputs[:, first : first + 256], weights[:, first : first + 256].astype(float)
        hessian = x.T @ x
        hessian += 0.1 * hessian.diagonal().mean() * np.eye(len(hessian))
        factor = np.linalg.cholesky(np.linalg.inv(hessian)).T
        for j in range(w.shape[1]):
            if j % group == 0:
                here, importance = w[:, j : j + group], hessian.diagonal()[j : j + group]
                extreme = np.take_along_axis(here, np.abs(here).argmax(1)[:, np.newaxis], 1) / -8
                tried = [np.float16(extreme * part).astype(float) for part in (1, 0.92, 0.85)]
                errors = [importance @ np.square(here - np.clip(np.rint(here / s), -8, 7) * s).T for s in tried]
                scale = np.choose(np.argmin(errors, 0), [s[:, 0] for s in tried])
                scales[:, (first + j) // group] = scale
            q = np.clip(np.rint(w[:, j] / scale), -8, 7)
            codes[:, first + j] = q
            w[:, j:] -= np.outer((w[:, j] - q * scale) / factor[j, j], factor[j, j:])
    return codes, scales


def unpack(packed, columns):
    """Signed codes, the first of each byte in its lower half."""
    codes = np.stack((packed & 15, packed >> 4), -1).reshape(-1, columns).astype(np.int8)
    return np.where(codes > 7, codes - 16, codes)


@pytest.mark.parametrize(("dtype", "columns", "group"), [("f32", 384, 128), ("bf16", 256, 128), ("f16", 320, 64)])
def test_a_matrix_is_rounded_as_by_the_plain_algorithm(dtype, columns, group):
    draw = np.random.default_rng(5)
    values = draw.standard_normal((40, columns)).astype(np.float32)
    stored = (
        (values.view(np.uint32) >> 16).astype(np.uint16)
        if dtype == "bf16"
        else values.astype(dtype.replace("f", "float"))
    )
    matrix = Tensor("matrix", stored.shape, dtype, stored)
    inputs = (draw.standard_normal((500, columns)) @ draw.standard_normal((columns, columns))).astype(np.float32)
    inputs[:, 7] = 0
    hessian = BlockHessian(columns)
    for part in np.split(inputs, 4):
        hessian.add(part)
    (found,) = fitted_rows(matrix, hessian, group)
    codes, scales = plain_gptq(matrix.f32(), inputs.astype(float), group)
    np.testing.assert_array_equal(found["matrix/scale"].view(np.float16).reshape(scales.shape)[:, 0], scales[:, 0])
    same = (unpack(found["matrix"], columns) == codes).all(1)
    assert same.mean() > 0.9, "a value half way between two codes may become either, and changes its row"


def test_zeros_stay_zeros():
    """Of weights and of inputs."""
    hessian = BlockHessian(128)
    hessian.add(np.zeros((3, 128), np.float32))
    (found,) = fitted_rows(Tensor("zeros", (2, 128), "f32", np.zeros((2, 128), np.float32)), hessian, 128)
    assert not found["zeros"].any()
    assert np.isfinite(found["zeros/scale"].view(np.float16)).all()


def write(path, stop_after=None):
    """Compress a tiny checkpoint, untied, from `path`.checkpoint; go on where a journal ends."""
    bin = path.with_suffix(".bin")
    with (
        CheckpointTensors.open(path.with_suffix(".checkpoint")) as checkpoint,
        IrWriter(path, 2**21, Journal.open(bin, {"of": "a test"})) as ir,
    ):
        found = {}
        for weight in compress(checkpoint, FIT, ir, activations=Activations(checkpoint, FIT, TEXTS)):
            found[weight.name] = weight.node
            if weight.name == stop_after:
                return {}, b""
        kinds = {name: element_type(node) for name, node in found.items()}
        return kinds, bin.read_bytes()[: ir.size]


def element_type(node):
    """The type of the constant that a weight's node starts from."""
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node.get_element_type()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "one.xml"
    Tiny(layers=2, hidden=128, ffn=384, dtype="bf16").write(path.with_suffix(".checkpoint"))
    return path


@pytest.mark.slow
def test_the_bytes_depend_on_nothing_but_weights_and_texts(tiny, monkeypatch):
    """Not on threads, nor on an interruption; and an untied head is in int4, the embedding in int8."""
    written = []
    for threads, stop_after in ((1, None), (2, None), (2, "model.layers.1.self_attn.o_proj.weight")):
        monkeypatch.setattr(block_gptq, "usable_cores", lambda threads=threads: threads)
        tiny.with_suffix(".jsonl").unlink(missing_ok=True)
        if stop_after:
            write(tiny, stop_after)
        kinds, data = write(tiny)
        written.append(data)
    assert written[0] == written[1] == written[2]
    assert (kinds[EMBEDDING], kinds[HEAD]) == (ov.Type.u8, ov.Type.i4)
    assert {kind for name, kind in kinds.items() if "_proj.weight" in name} == {ov.Type.i4}


@pytest.mark.slow
def test_half_the_divergence_of_int4(demo_folder, tmp_path):
    """On a part of the texts of `python -m benchmarks.quality`, which measures 0.170 for int4 and 0.074."""
    *_, last = convert(CHECKPOINT, tmp_path / "fit", "int4-fit")
    source = Checkpoint.open(CHECKPOINT)
    ids = list(EvaluationTarget.open(demo_folder.path, None).token_ids(None, source).values())[::4]
    with source.weights() as checkpoint:
        wanted = quality.LogitSource(reference.hidden_states(checkpoint, ids), reference.checkpoint_head(checkpoint))
        found = {}
        for folder in (demo_folder, last.result):
            model = layerwise.LayerwiseModel(folder.path, checkpoint.architecture)
            given = quality.LogitSource(model.hidden_states(ids), model.head())
            found[folder.manifest.recipe] = quality.compare_logits(ids, given, wanted).figures().mean_kl
    assert found["int4-fit"] < 0.12
    assert found["int4-fit"] < 0.6 * found["int4"]


def test_the_texts_that_are_read_come_from_the_whole_file():
    texts = [np.full(100, number) for number in range(50)]
    found = at_most(texts, 1_250)
    assert sum(map(len, found)) == 1_250
    numbers = [int(text[0]) for text in found]
    assert numbers == sorted(numbers)
    assert numbers[0] < 15
    assert numbers[-1] > 35
    assert len(at_most(texts, None)) == len(texts)
    assert len(at_most(texts, 10_000)) == 50


@pytest.mark.parametrize("name", ["int4-fit+awq", "int4-fit+gptq+scale"])
def test_other_methods_cannot_be_added(name):
    with pytest.raises(ConversionError, match=r"int4-fit cannot be combined with \w+") as caught:
        get_recipe(name)
    assert f"int4+{name.partition('+')[2]}" in caught.value.hint


def test_what_it_takes_is_said_first():
    assert FIT.cost not in (RECIPES["int4"].cost, RECIPES["int4-gptq"].cost)
    assert replace(FIT, block_gptq=False).calibration_tokens is None
    assert FIT.nbytes(100, 256, kind="head") == RECIPES["int4-small"].nbytes(100, 256, kind="head")
    assert FIT.nbytes(100, 256, kind="embedding") == RECIPES["int4"].nbytes(100, 256, kind="embedding")
