import json
from dataclasses import replace

import pytest

from convert.estimate import conversion_memory, model_sizes
from convert.recipe import RECIPES, Recipe, get_recipe, verdict
from edge.catalogue import CATALOGUE
from edge.cli import main
from edge.demo import CHECKPOINT
from runtime.errors import ConversionError


def test_recipes_are_found_by_name():
    assert all(get_recipe(name).name == name for name in RECIPES)
    assert next(iter(RECIPES)) == "int4-fit"


def test_methods_are_added_by_name():
    recipe = get_recipe("int4-npu+awq+scale")
    assert (recipe.name, recipe.group_size, recipe.embedding_and_head) == ("int4-npu+awq+scale", -1, "int8_sym")
    assert (recipe.awq, recipe.scale, recipe.gptq, recipe.needs_calibration) == (True, True, False, True)
    assert replace(get_recipe("int4+gptq"), name="int4-gptq", summary="") == replace(RECIPES["int4-gptq"], summary="")


@pytest.mark.parametrize("name", ["int8+gptq", "int4+", "int4+gtpq", "bf16+awq", "int5+awq", "+awq"])
def test_methods_that_make_no_sense_are_refused(name):
    with pytest.raises(ConversionError, match="there is no recipe"):
        get_recipe(name)


@pytest.mark.parametrize(("name", "near"), [("int-4", "int4"), ("INT8", "int8"), ("int4_npu", "int4-npu"), ("", None)])
def test_an_unknown_name_is_answered_with_the_nearest(name, near):
    with pytest.raises(ConversionError, match="there is no recipe") as caught:
        get_recipe(name)
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
        ("nf4-npu", 80, False, ("nf4", -1), ""),
        ("int4-asym", 256, False, ("int4_asym", 128), ""),
        ("int4-g32", 192, False, ("int4_sym", 32), ""),
        ("int4-small", 192, True, ("int4_sym", 64), ""),
        ("int4-small", 80, True, ("int8_asym", -1), ""),
        ("int8", 80, False, ("int8_asym", -1), ""),
        ("bf16", 80, False, (None, -1), ""),
    ],
)
def test_what_becomes_of_a_matrix(recipe, columns, end, form, note):
    assert RECIPES[recipe].mode_and_group(columns, kind="head" if end else "linear") == form
    assert end or RECIPES[recipe].fallback_note(columns) == note


@pytest.mark.parametrize(
    ("recipe", "end", "nbytes"),
    [
        ("int4", False, 100 * (256 // 2 + 2 * 2)),
        ("int4", True, 100 * (256 + 3)),
        ("int4-npu", False, 100 * (256 // 2 + 2)),
        ("int4-npu", True, 100 * (256 + 2)),
        ("nf4-npu", False, 100 * (256 // 2 + 2)),
        ("int4-asym", False, 100 * (256 // 2 + 2 * 2 + 1)),
        ("int4-g32", False, 100 * (256 // 2 + 2 * 8)),
        ("int4-small", True, 100 * (256 // 2 + 2 * 2)),
        ("int8", False, 100 * (256 + 3)),
        ("bf16", False, 100 * 256 * 2),
    ],
)
def test_how_many_bytes_a_matrix_takes(recipe, end, nbytes):
    assert RECIPES[recipe].nbytes(100, 256, kind="head" if end else "linear") == nbytes


def test_what_is_sensitive_is_int8():
    assert RECIPES["int4-mixed"].mode_and_group(256, sensitive=True) == ("int8_asym", -1)
    assert RECIPES["int4-mixed"].nbytes(100, 256, sensitive=True) == 100 * (256 + 3)


def test_the_command_lists_them_with_their_costs(capsys):
    assert main(["recipes", "--json"]) == 0
    listed = {fact["name"]: fact for fact in json.loads(capsys.readouterr().out)}
    assert list(listed) == list(RECIPES)
    for name, fact in listed.items():
        assert fact["disk"] == {
            "9B": CATALOGUE["GLM-4-9B-0414"].disk_bytes(name),
            "32B": CATALOGUE["GLM-4-32B-0414"].disk_bytes(name),
        }
    assert (listed["bf16"]["bits"], listed["int8"]["bits"]) == (16.0, 8.01)
    assert 4 < listed["int4-small"]["bits"] < listed["int4"]["bits"] < listed["int4-mixed"]["bits"] < 6
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in RECIPES)


def test_the_command_tells_them_of_a_checkpoint(capsys):
    assert main(["recipes", str(CHECKPOINT), "--json"]) == 0
    of_folder = json.loads(capsys.readouterr().out)[0]
    assert list(of_folder["disk"]) == [CHECKPOINT.name]
    assert 1e6 < of_folder["disk"][CHECKPOINT.name] < 1e7
    assert main(["recipes", "glm-edge-1.5b-chat", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)[0]["disk"]) == ["glm-edge-1.5b-chat"]
    assert main(["recipes", "glm-5"]) == 1


def test_methods_cost_memory_that_is_said_first():
    a = CATALOGUE["GLM-4-9B-0414"].architecture
    memory = {name: conversion_memory(a, get_recipe(name), model_sizes(a, get_recipe(name))) for name in RECIPES}
    assert memory["int4"] == memory["int4-g32"] < memory["int4-gptq"]
    more_texts = conversion_memory(a, RECIPES["int4-gptq"], model_sizes(a, RECIPES["int4-gptq"]), tokens=100_000)
    assert more_texts > memory["int4-gptq"] + 90_000 * a.ffn * 4


@pytest.mark.parametrize(
    ("recipe", "mean_kl", "top1", "words"),
    [
        ("int4", 0.298, 0.7734, "as close to the checkpoint as int4 usually is (the same next token in 77 % of 128"),
        ("int4", 0.45, 0.7, "farther from the checkpoint than int4 usually is; `edge eval` measures it"),
        ("int4-gptq", 0.25, 0.8, "farther from the checkpoint than int4-gptq usually is"),
        ("int4-npu+gptq", 0.1, 0.8, "as close to the checkpoint as int4-npu+gptq usually is"),
        ("int8", 0.0026, 0.996, "nearly the same as the checkpoint (the same next token in 99 % of 128 positions; "),
        ("int8", 0.02, 0.9, "farther from the checkpoint than int8 usually is"),
        (
            "bf16",
            0.0,
            1.0,
            "nearly the same as the checkpoint (the same next token in 100 % of 128 positions; mean KL 0)",
        ),
        ("int3", 0.1, 0.5, "tokens 128, mean_kl 0.1, top1 0.5"),
    ],
)
def test_the_figures_are_said_in_words(recipe, mean_kl, top1, words):
    assert words in verdict(recipe, {"tokens": 128, "mean_kl": mean_kl, "top1": top1})


def test_figures_of_another_version_are_shown_as_they_are():
    assert verdict("int4", {"loss": 1.23456}) == "loss 1.235"


def test_what_is_usual_is_within_what_is_allowed():
    assert all(0 < recipe.usual_kl < recipe.max_kl for recipe in RECIPES.values())


@pytest.mark.slow
def test_a_recipe_is_defined_in_one_place(monkeypatch, capsys, tmp_path):
    """What `convert/recipe.py` defines is listed, estimated, converted and described."""
    new = Recipe("int8-new", "a new one", "int8_sym", "int8_sym", max_kl=0.1, usual_kl=0.05)
    monkeypatch.setitem(RECIPES, new.name, new)
    assert main(["recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)[-1]
    assert {key: listed[key] for key in new.to_json()} == new.to_json() | {"devices": list(new.devices)}
    assert main(["recipes"]) == 0
    assert new.summary in capsys.readouterr().out
    assert CATALOGUE["GLM-4-9B-0414"].disk_bytes(new.name) < CATALOGUE["GLM-4-9B-0414"].disk_bytes("int8")
    assert main(["convert", str(CHECKPOINT), str(tmp_path / "model"), "--recipe", new.name]) == 0
    assert f"as close to the checkpoint as {new.name} usually is" in verdict(
        new.name, {"tokens": 128, "mean_kl": 0.03, "top1": 0.9}
    )


def test_keys_of_a_recipe_s_json_stay():
    assert list(RECIPES["int4"].to_json()) == [
        *("name", "summary", "linear", "ends", "group_size", "ratio", "awq", "scale", "gptq", "devices", "max_kl"),
        *("usual_kl", "take_over", "block_gptq", "head"),
    ]


@pytest.mark.parametrize(("model", "default"), [([], "int4-fit"), (["glm-4v-9b"], "int4")])
def test_the_default_is_marked(model, default, capsys):
    assert main(["recipes", *model]) == 0
    lines = capsys.readouterr().out.splitlines()
    (marked,) = [line for line in lines if "the default" in line]
    assert marked.split()[0] == default
    assert main(["recipes", *model, "--json"]) == 0
    assert [fact["name"] for fact in json.loads(capsys.readouterr().out) if fact["default"]] == [default]
