"""What an IR says of itself, and whether it is fit for an NPU."""

import re
from dataclasses import replace

import pytest

from convert.pipeline import convert
from edge.demo import CHECKPOINT
from runtime.errors import ModelFolderError
from runtime.folder.ir import IR, WeightMatrix
from runtime.folder.model_folder import ModelFolder

FIT = IR(
    frozenset({"input_ids", "attention_mask", "position_ids", "beam_idx"}),
    (WeightMatrix("q", "i4", -1, True), WeightMatrix("down", "i4", 128, True), WeightMatrix("head", "u8", -1, False)),
    1000,
    True,
)


def with_first(**changes):
    return replace(FIT, matrices=(replace(FIT.matrices[0], **changes), *FIT.matrices[1:]))


@pytest.mark.parametrize(
    ("ir", "reasons"),
    [
        (FIT, []),
        (replace(FIT, stateful=False), ["not stateful"]),
        (replace(FIT, inputs=frozenset({"input_ids", "attention_mask"})), ["no input position_ids"]),
        (with_first(type="u8", group=-1, symmetric=False), [r"1 of the decoder's 2 matrices are int4 \(1 in u8\)"]),
        (with_first(type="bf16", group=0), [r"1 in bf16"]),
        (with_first(type="u4", symmetric=False), ["1 int4 matrices have zero points"]),
        (with_first(group=64), ["in groups of 64"]),
        (with_first(type="nf4", group=-1), []),
        (with_first(type="nf4", group=128), ["NF4 in groups of 128, not by row"]),
        (replace(with_first(group=64), stateful=False), ["not stateful", "in groups of 64"]),
    ],
)
def test_what_an_npu_asks_for(ir, reasons):
    found = ir.npu_obstacles()
    assert len(found) == len(reasons)
    for reason, pattern in zip(found, reasons, strict=True):
        assert re.search(pattern, reason)


def test_a_folder_converted_for_the_npu_is_fit(npu_folder):
    ir = IR.read(npu_folder)
    assert ir.npu_obstacles() == ()
    assert ir.stateful
    assert {(matrix.type, matrix.group) for matrix in ir.matrices[:-1]} == {("i4", -1)}


@pytest.mark.slow
def test_nf4_by_row_is_fit_for_an_npu(tmp_path):
    *_, last = convert(CHECKPOINT, tmp_path / "model", "nf4-npu")
    ir = IR.read(last.result)
    assert ir.npu_obstacles() == ()
    assert {(matrix.type, matrix.group) for matrix in ir.matrices[:-1]} == {("nf4", -1)}


def test_the_ir_agrees_with_the_manifest(demo_folder, npu_folder):
    for folder in (demo_folder, npu_folder):
        sizes = folder.manifest.sizes
        assert IR.read(folder).largest_constant == pytest.approx(sizes.largest, rel=0.02)  # the scales are apart
        weights = folder.manifest.files["openvino_model.bin"].size
        assert weights == pytest.approx(sizes.weights, rel=0.02)


@pytest.mark.parametrize("text", ["", "<net", "<net/>", "<net><layers><layer/></layers></net>"])
def test_what_is_not_an_ir_is_refused(bare_folder, text):
    (bare_folder.path / "openvino_model.xml").write_text(text)
    with pytest.raises(ModelFolderError, match="is not an IR"):
        IR.read(ModelFolder(bare_folder.path, bare_folder.manifest))
