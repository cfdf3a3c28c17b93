"""The tokens of pictures, their positions, and the table of word embeddings."""

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("PIL")
ov = pytest.importorskip("openvino")

from openvino import opset13 as ops  # noqa: E402

from runtime.backends.openvino.vision.embedding import embed, picture_ids, prompt_shifts  # noqa: E402
from runtime.backends.openvino.vision.word_embeddings import WordEmbeddings  # noqa: E402
from runtime.errors import ModelFolderError, RequestError  # noqa: E402
from runtime.folder.ir_files import TABLE  # noqa: E402
from runtime.folder.manifest import VisionRecord  # noqa: E402
from runtime.picture_size import PictureSize  # noqa: E402
from runtime.pictures import Picture  # noqa: E402
from runtime.prompt.picture_tokens import picture_tokens  # noqa: E402

GLM4V = picture_tokens(VisionRecord("glm4v", 1120, 1602))
GLM41V = picture_tokens(VisionRecord("glm4_1v", shifts=3, picture_size=PictureSize(28, 2, 112 * 112, 28 * 28 * 15000)))
A, B = (Picture.open(np.full(shape, 7, np.uint8)) for shape in ((40, 60, 3), (300, 200, 3)))


def test_glm4v_s_tokens_share_a_position():
    """Each position's distance to the last one is that of the published rule."""
    numbers = GLM4V.shifts([4, A, 10])
    positions = np.arange(len(numbers)) + numbers @ [128, 1]
    published = np.concatenate([np.arange(5), np.full(1600, 5), np.arange(6, 17)])  # begin, 1600 tokens, end, text
    assert len(numbers) == 4 + 1602 + 10
    assert np.array_equal(positions - positions[-1], published - published[-1])
    assert not numbers[4 + 1601 :].any()
    assert numbers[0].tolist() == [12, 63]  # 1599
    assert (GLM4V.count(A), GLM4V.size(A), GLM4V.numbers) == (1602, (1120, 1120), 2)
    assert not GLM4V.shifts([5]).any()


def test_glm41v_s_tokens_follow_the_picture_s_size():
    assert GLM41V.size(B) == (308, 196)
    assert GLM41V.count(B) == 11 * 7
    numbers = GLM41V.shifts([3, B, 2, A, 1])
    assert numbers.shape == (3 + 77 + 2 + GLM41V.count(A) + 1, GLM41V.numbers)
    assert not numbers[-1].any()
    assert numbers[0, 0] == numbers[0, 1] * 128 + numbers[0, 2]
    with pytest.raises(RequestError, match="200 times"):
        GLM41V.count(Picture.open(np.zeros((1, 1000, 3), np.uint8)))


def test_unknown_towers_are_named():
    with pytest.raises(ModelFolderError, match="unknown image tower 'glm9v'"):
        picture_tokens(VisionRecord("glm9v"))
    with pytest.raises(ModelFolderError, match="no rule"):
        picture_tokens(VisionRecord("glm4_1v"))


def table(kind: str):
    """A table of 50 rows as conversions write it."""
    draw = np.random.default_rng(1)
    if kind == "int8":
        weight, zero = (
            ops.convert(ops.constant(draw.integers(0, 256, shape, dtype=np.uint8)), "f16")
            for shape in ((50, 32), (50, 1))
        )
        scale = ops.constant(draw.random((50, 1)).astype(np.float16))
        return ops.convert(ops.multiply(ops.subtract(weight, zero), scale), "f32")
    values = draw.standard_normal((50, 32)).astype(np.float32)
    if kind == "f32":
        return ops.constant(values)
    return ops.convert(ops.constant(values, dtype={"f16": ov.Type.f16, "bf16": ov.Type.bf16}[kind]), "f32")


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("kind", ["int8", "f32", "f16", "bf16"])
def test_rows_have_the_bits_that_the_plugin_computes(tmp_path, kind, precision):
    """GenAI's prefix cache knows a token by them."""
    ids = ops.parameter(ov.PartialShape([-1, -1]), ov.Type.i64)
    rows = ops.gather(table(kind), ids, ops.constant(np.int32(0)))
    ov.save_model(ov.Model([ops.result(rows)], [ids]), tmp_path / f"{TABLE}.xml", compress_to_fp16=False)
    wanted = ov.Core().compile_model(tmp_path / f"{TABLE}.xml", "CPU", {"INFERENCE_PRECISION_HINT": precision})
    asked = np.array([3, 0, 49, 3])
    found = WordEmbeddings(tmp_path)
    assert found.width == 32
    assert np.array_equal(found.rows(asked), wanted(asked[None])[0][0])


def test_other_tables_are_named(tmp_path):
    ids = ops.parameter(ov.PartialShape([-1, -1]), ov.Type.i64)
    ov.save_model(ov.Model([ops.result(ops.convert(ids, "f32"))], [ids]), tmp_path / f"{TABLE}.xml")
    with pytest.raises(ModelFolderError, match="no table of embeddings"):
        WordEmbeddings(tmp_path)


def test_features_stand_in_the_places_of_their_pictures():
    class Table:
        width = 3

        def rows(self, ids):
            return np.repeat(ids[:, None], 3, 1).astype(np.float32)

    def count(picture):
        return GLM41V.count(picture)

    ids = [7, *picture_ids(A, count(A)), *picture_ids(B, count(B)), 8, 9]
    features = [np.full((count(picture), 3), -float(number)) for number, picture in ((1, A), (2, B))]
    found = embed(ids, prompt_shifts(ids, [A, B], GLM41V), features, Table()).tensor().data[0]
    assert found[:, 7:].tolist() == [[7] * 3] + [[-1] * 3] * count(A) + [[-2] * 3] * count(B) + [[8] * 3, [9] * 3]
    assert np.array_equal(found[:, :7], GLM41V.shifts([1, A, B, 2]))
    assert set(picture_ids(A, 5)).isdisjoint(picture_ids(B, 5))
    assert max(ids[1:-2]) < 0
