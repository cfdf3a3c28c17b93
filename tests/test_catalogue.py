import json

import pytest

from convert.recipe import RECIPES
from edge.catalogue import CATALOGUE, find_entry, get_entry
from edge.cli import main
from runtime.errors import CheckpointError
from runtime.prompt.families import FAMILIES

NAMES = {
    "GLM-4-9B-Chat-0414": "GLM-4-9B-0414",
    "glm-4-32b-chat-0414": "GLM-4-32B-0414",
    "GLM-4-Z1-9B-0414": "GLM-Z1-9B-0414",
    "GLM-4-Z1-Rumination-32B-0414": "GLM-Z1-Rumination-32B-0414",
    "THUDM/glm-4-9b-chat-1m": "glm-4-9b-chat-1m",
    "zai-org/GLM-Z1-32B-0414": "GLM-Z1-32B-0414",
}


def test_all_names_are_one_models():
    for entry in CATALOGUE.values():
        for name in (entry.name, entry.repository, entry.name.upper(), *entry.aliases):
            assert find_entry(name) is entry
        assert entry.family in FAMILIES


@pytest.mark.parametrize(("name", "model"), NAMES.items())
def test_other_names_are_known(name, model):
    assert get_entry(name).name == model


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(CheckpointError) as caught:
        get_entry("GLM-4-9B-0415")
    assert "GLM-4-9B-0414" in caught.value.hint


def test_facts_are_those_of_the_reference(reference):
    facts = json.loads((reference / "config_facts.json").read_text())["models"]
    keys = {"hidden": "hidden", "layers": "layers", "heads": "heads", "kv": "kv_heads", "head_dim": "head_dim",
            "ffn": "ffn", "vocab": "vocab", "max_pos": "context", "kv_bytes_per_token_f16": "kv_bytes_per_token",
            "rotary_dim": "rotary_dim", "tie": "tied_embeddings", "eps": "norm_eps"}  # fmt: skip
    checked = 0
    for name, fact in facts.items():
        if name == "glm-4v-9b":
            continue
        entry = CATALOGUE[name]
        assert entry.licence == fact["licence"]
        for key, field in keys.items():
            if fact.get(key) is not None:
                assert getattr(entry.architecture, field) == fact[key], (name, key)
                checked += 1
    assert checked >= 40


def test_sizes_are_those_of_the_models():
    parameters = {"GLM-4-9B-0414": 9.4e9, "GLM-4-32B-0414": 32.57e9, "GLM-Z1-Rumination-32B-0414": 33.142e9}
    for name, count in parameters.items():
        entry = CATALOGUE[name]
        assert entry.disk_bytes("bf16") / 2 == pytest.approx(count, rel=0.005)
        assert entry.disk_bytes("int4") < entry.disk_bytes("int8") < entry.disk_bytes("bf16")
        assert (
            entry.disk_bytes("int4-small")
            < entry.disk_bytes("int4")
            < entry.disk_bytes("int4-mixed")
            < entry.disk_bytes("int8")
        )
        # The embedding stays in the file; the KV cache and the activations come on top, and scales in f32.
        assert all(0.8 < entry.memory_bytes(recipe) / entry.disk_bytes(recipe) < 1.4 for recipe in RECIPES)
        assert 0.9 < entry.memory_bytes("int4") / entry.disk_bytes("int4") < 1.2


def test_the_command_lists_them(capsys):
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == len(CATALOGUE)
    assert main(["models", "THUDM/glm-4-9b-chat"]) == 0
    out = capsys.readouterr().out
    assert "Built with glm-4" in out
    assert main(["models", "glm-5"]) == 1
