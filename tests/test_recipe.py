import pytest

from convert.recipe import RECIPES, named
from runtime.errors import ConversionError


def test_recipes_are_found_by_name():
    assert [named(name).name for name in RECIPES] == ["int4", "int4-npu", "int8", "stored", "bf16"]


@pytest.mark.parametrize(("name", "near"), [("int-4", "int4"), ("INT8", "int8"), ("int4_npu", "int4-npu"), ("", None)])
def test_an_unknown_name_is_answered_with_the_nearest(name, near):
    with pytest.raises(ConversionError, match="there is no recipe") as caught:
        named(name)
    assert (f"did you mean {near!r}?" in caught.value.hint) is (near is not None)
    assert all(recipe in caught.value.hint for recipe in RECIPES)


@pytest.mark.parametrize(
    ("recipe", "columns", "end", "form", "note"),
    [
        ("int4", 4096, False, ("int4_sym", 128), ""),
        ("int4", 13696, False, ("int4_sym", 128), ""),  # GLM-4-9B's down_proj: 107 groups
        ("int4", 4096, True, ("int8_asym", -1), ""),
        ("int4", 192, False, ("int4_sym", 64), "groups of 64, since 192 columns do not divide into groups of 128"),
        ("int4", 80, False, ("int8_asym", -1), "int8_asym, since 80 columns do not divide into groups of 128"),
        ("int4-npu", 80, False, ("int4_sym", -1), ""),
        ("int4-npu", 80, True, ("int8_sym", -1), ""),
        ("int8", 80, False, ("int8_asym", -1), ""),
        ("bf16", 80, False, (None, -1), ""),
    ],
)
def test_what_becomes_of_a_matrix(recipe, columns, end, form, note):
    assert RECIPES[recipe].form(columns, end=end) == form
    assert end or RECIPES[recipe].note(columns) == note


@pytest.mark.parametrize(
    ("recipe", "end", "nbytes"),
    [
        ("int4", False, 100 * (256 // 2 + 2 * 2)),
        ("int4", True, 100 * (256 + 3)),
        ("int4-npu", False, 100 * (256 // 2 + 2)),
        ("int4-npu", True, 100 * (256 + 2)),
        ("int8", False, 100 * (256 + 3)),
        ("bf16", False, 100 * 256 * 2),
    ],
)
def test_how_many_bytes_a_matrix_takes(recipe, end, nbytes):
    assert RECIPES[recipe].nbytes(100, 256, end=end) == nbytes
