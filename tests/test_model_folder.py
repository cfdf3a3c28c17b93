import json
from dataclasses import replace

import pytest

from runtime.errors import ModelFolderError
from runtime.folder.manifest import ModelSizes
from runtime.folder.model_folder import ModelFolder, write_manifest


def test_a_folder_comes_back_as_it_was_sealed(bare_folder):
    opened = ModelFolder.open(bare_folder.path)
    assert opened == bare_folder
    opened.verify()
    assert opened.size == sum(file.stat().st_size for file in opened.path.iterdir() if file.name != "edge.json")


def test_the_manifest_keeps_its_keys_whatever_the_fields_are_called(bare_folder):
    sizes = ModelSizes(weights=9, embedding_bytes=4, largest=5)
    write_manifest(bare_folder.path, replace(bare_folder.manifest, sizes=sizes))
    data = json.loads((bare_folder.path / "edge.json").read_text())
    assert list(data["sizes"]) == "weights gathered largest groups layers hidden ffn vocab kv_heads".split()
    opened = ModelFolder.open(bare_folder.path)
    opened.verify_manifest()
    assert opened.manifest.sizes == sizes
    assert opened.manifest.to_json()["sizes"] == data["sizes"]


def edit(**changes):
    def change(path):
        data = json.loads((path / "edge.json").read_text())
        (path / "edge.json").write_text(json.dumps(data | changes))

    return change


DAMAGE = {
    "no folder": (lambda path: path.rename(path.with_name("gone")), "there is no folder"),
    "no manifest": (lambda path: (path / "edge.json").unlink(), "is not a model folder"),
    "broken JSON": (lambda path: (path / "edge.json").write_text("{"), "is damaged"),
    "a list": (lambda path: (path / "edge.json").write_text("[]"), "is damaged"),
    "a later version": (edit(format_version=99), "made by a later version"),
    "a wrong type": (edit(context_length="long"), "context_length"),
    "a file outside": (edit(files={"../x": {"size": 1, "sha256": ""}}), "outside the folder"),
    "a lost file": (lambda path: (path / "chat_template.jinja").unlink(), "is missing chat_template.jinja"),
    "a cut file": (lambda path: (path / "chat_template.jinja").write_text("x"), "bytes; its manifest records"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_folder_is_refused_with_a_cure(bare_folder, damage, words):
    damage(bare_folder.path)
    with pytest.raises(ModelFolderError, match=words) as caught:
        ModelFolder.open(bare_folder.path)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_changed_byte_is_found(bare_folder):
    file = bare_folder.path / "chat_template.jinja"
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    opened = ModelFolder.open(bare_folder.path)
    with pytest.raises(ModelFolderError, match=r"chat_template\.jinja is damaged"):
        opened.verify()


def test_a_base_model_has_no_template(bare_folder):
    (bare_folder.path / "chat_template.jinja").unlink()
    with pytest.raises(ModelFolderError, match="base model"):
        bare_folder.chat_template()


def test_a_damaged_generation_config_is_refused(bare_folder):
    """It is read in an early folder, whose manifest has no sampling settings."""
    (bare_folder.path / "generation_config.json").write_text('{"do_sample": true, "temperature": 99}')
    early = replace(bare_folder, manifest=replace(bare_folder.manifest, sampling=None))
    with pytest.raises(ModelFolderError, match="temperature is 99"):
        early.sampling()
    damaged = replace(bare_folder, manifest=replace(bare_folder.manifest, sampling={"temperature": 99}))
    with pytest.raises(ModelFolderError, match="temperature is 99"):
        damaged.sampling()
