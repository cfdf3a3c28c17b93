"""The exported `response_template`, held against transformers' own parser."""

import json
import shutil

import pytest

from edge.cli import main
from edge.demo import CHECKPOINT
from edge.export import export_template
from runtime.errors import CheckpointError
from runtime.prompt.families import FAMILIES, GLM4_0414
from runtime.prompt.families.response_template import response_template


@pytest.fixture
def checkpoint(tmp_path):
    shutil.copytree(CHECKPOINT, tmp_path / "checkpoint", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "checkpoint"


def call(name, arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


REPLIES = {
    "words": ("glm4_0414", "\nHello {you}.<|user|>", {"content": "Hello {you}."}),
    "a call": (
        "glm4_0414",
        'get_sky\n{"city": "北京"}<|observation|>',
        {"tool_calls": [call("get_sky", {"city": "北京"})]},
    ),
    "two calls": (
        "glm4_2024",
        'f\n{"a": 1}<|assistant|>g.h \n{}<|observation|>',
        {"tool_calls": [call("f", {"a": 1}), call("g.h", {})]},
    ),
    "a thought": ("z1", "Well.\n</think>\n42<|user|>", {"reasoning_content": "Well.", "content": "42"}),
    "no tools": ("glm_edge", "\nHi.<|endoftext|>", {"content": "Hi."}),
}


@pytest.mark.parametrize(("family", "reply", "wanted"), REPLIES.values(), ids=REPLIES.keys())
def test_transformers_parses_what_the_families_say(family, reply, wanted):
    pytest.importorskip("transformers", minversion="5.17")
    from transformers.utils.chat_parsing import parse_response

    prefix = "[gMASK]<sop><|user|>\nHi<|assistant|>" + ("\n<think>" if family == "z1" else "")
    parsed = parse_response(reply, response_template(FAMILIES[family], FAMILIES[family].stop_tokens), prefix=prefix)
    assert {
        key: value.strip() if isinstance(value, str) else value for key, value in parsed.items() if key != "role"
    } == wanted


def test_the_template_is_written_and_the_rest_kept(checkpoint):
    path = checkpoint / "tokenizer_config.json"
    before = path.read_bytes()
    assert export_template(checkpoint) == path
    after = json.loads(path.read_text(encoding="utf-8"))
    assert after.pop("response_template") == response_template(GLM4_0414, GLM4_0414.stop_tokens)
    assert after == json.loads(before)
    assert (checkpoint / "tokenizer_config.json.orig").read_bytes() == before
    written = path.read_bytes()
    export_template(checkpoint)
    assert path.read_bytes() == written


def test_a_template_that_is_there_is_not_lost_by_accident(checkpoint, capsys):
    path = checkpoint / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"response_template": {"mine": 1}}
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="has a response_template already"):
        export_template(checkpoint)
    assert json.loads(path.read_text()) == config
    assert main(["export-template", str(checkpoint), "--force"]) == 0
    assert "tokenizer_config.json" in capsys.readouterr().out
    assert "fields" in json.loads(path.read_text())["response_template"]


def test_a_model_folder_stays_sealed(demo_folder):
    with pytest.raises(CheckpointError, match="is a model folder") as caught:
        export_template(demo_folder.path)
    assert "checkpoint" in caught.value.hint
    demo_folder.verify()
    assert {path.name for path in demo_folder.path.iterdir()} == {*demo_folder.manifest.files, "edge.json"}


def test_a_link_in_the_checkpoint_is_replaced(checkpoint, tmp_path):
    """As the hub's cache has them."""
    blob = tmp_path / "blob"
    (checkpoint / "tokenizer_config.json").rename(blob)
    before = blob.read_bytes()
    (checkpoint / "tokenizer_config.json").symlink_to(blob)
    (checkpoint / "tokenizer_config.json.orig").symlink_to(tmp_path / "nothing")
    export_template(checkpoint)
    assert blob.read_bytes() == before
    assert not (tmp_path / "nothing").exists()
    assert (checkpoint / "tokenizer_config.json").read_bytes() != before
