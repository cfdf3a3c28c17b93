import json
import shutil
from dataclasses import replace

import pytest

from edge.demo import CHECKPOINT
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import CheckpointError, ModelFolderError
from runtime.folder.model_folder import ModelFolder
from runtime.sampling import SamplingParams
from runtime.source import open_source

TEMPLATE = (CHECKPOINT / "chat_template.jinja").read_text(encoding="utf-8")


@pytest.fixture
def checkpoint(tmp_path):
    """The embedded checkpoint without its weights, which a server does not need."""
    shutil.copytree(CHECKPOINT, tmp_path / "tiny", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "tiny"


def test_its_facts_are_those_of_the_converted_folder(demo_folder):
    opened = open_source(CHECKPOINT)
    assert isinstance(opened, Checkpoint)
    kept = ("recipe", "versions", "devices", "sizes", "verification", "notes", "files")
    wanted = replace(demo_folder.manifest, **{name: getattr(opened.manifest, name) for name in kept})
    assert opened.manifest == replace(wanted, source=replace(wanted.source, fingerprint=""))
    assert opened.chat_template() == demo_folder.chat_template()
    assert opened.sampling() == demo_folder.sampling()
    with opened.weights() as weights:
        assert "model.norm.weight" in weights.names


def test_a_model_folder_is_one_though_it_has_a_config(demo_folder):
    assert isinstance(open_source(demo_folder.path), ModelFolder)


PLACES = {
    "a text": TEMPLATE,
    "a list": [{"name": "rag", "template": "x"}, {"name": "default", "template": TEMPLATE}],
}


@pytest.mark.parametrize("template", PLACES.values(), ids=PLACES.keys())
def test_the_template_may_sit_in_the_tokenizer_s_config(checkpoint, template):
    (checkpoint / "chat_template.jinja").unlink()
    path = checkpoint / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    opened = Checkpoint.open(checkpoint)
    assert opened.manifest.family == "glm4_0414"
    assert opened.chat_template() == TEMPLATE


def test_a_base_model_has_no_template(checkpoint):
    (checkpoint / "chat_template.jinja").unlink()
    opened = Checkpoint.open(checkpoint)
    assert opened.manifest.family == "base"
    with pytest.raises(CheckpointError, match="base model"):
        opened.chat_template()


def test_sampling_is_the_checkpoint_s(checkpoint):
    (checkpoint / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6, "top_p": 0.9}')
    assert Checkpoint.open(checkpoint).sampling().resolve() == SamplingParams(temperature=0.6, top_p=0.9)


def test_weights_may_be_missing_until_they_are_asked_for(checkpoint):
    with pytest.raises(CheckpointError, match=r"no \.safetensors file"):
        Checkpoint.open(checkpoint).weights()


def test_what_is_neither_is_refused(tmp_path):
    with pytest.raises(ModelFolderError, match="is not a model folder"):
        open_source(tmp_path)
    with pytest.raises(ModelFolderError, match="there is no folder"):
        open_source(tmp_path / "gone")


def test_the_root_of_a_cache_entry_names_its_snapshot(checkpoint, tmp_path):
    root = tmp_path / "models--zai-org--GLM-4-9B-0414"
    snapshot = shutil.copytree(checkpoint, root / "snapshots" / ("a" * 40))
    (root / "blobs").mkdir()
    with pytest.raises(CheckpointError, match="cache entry; its checkpoint is in snapshots") as caught:
        Checkpoint.open(root)
    assert caught.value.hint == f"pass {snapshot}"
    assert Checkpoint.open(snapshot).manifest.source.name == "zai-org/GLM-4-9B-0414"


def test_what_macos_keeps_beside_weights_is_not_weights(checkpoint):
    shutil.copyfile(CHECKPOINT / "model.safetensors", checkpoint / "weights.safetensors")
    (checkpoint / "._weights.safetensors").write_bytes(b"\0\5\x16\7")
    weights = Checkpoint.open(checkpoint).weights()
    assert weights.names
    weights.close()
    (checkpoint / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"\._weights.safetensors is not a weight file, but what macOS keeps"):
        Checkpoint.open(checkpoint).weights()
