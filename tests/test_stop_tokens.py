"""What ends a reply: the checkpoint's own end tokens on every engine, and the family's if its template writes them."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from convert.pipeline import convert
from edge.demo import CHECKPOINT
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.role_tokens import end_token_ids, require_special_stop_tokens
from runtime.errors import CheckpointError
from runtime.events import Finish, Text
from runtime.folder.model_folder import ModelFolder, write_manifest
from runtime.grammar.grammar import Regex
from runtime.model import Model
from runtime.source import stop_tokens

from .ggufs import write_gguf

STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
IDS = {"<|endoftext|>": 2466, "<|user|>": 2473, "<|observation|>": 2475, "<|end_of_video|>": 2479, "<sop>": 2470}


@pytest.fixture
def checkpoint(tmp_path):
    """The embedded checkpoint without its weights."""
    shutil.copytree(CHECKPOINT, tmp_path / "tiny", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "tiny"


def edit(path, **changes):
    """Change keys of a JSON file; `...` removes one."""
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}), encoding="utf-8")


@pytest.mark.parametrize(
    ("config", "generation", "named"),
    [
        (2479, ..., ("<|end_of_video|>",)),
        (..., 2479, ("<|end_of_video|>",)),
        ([2479, 2470], ..., ("<|end_of_video|>", "<sop>")),
        (2479, [2470], ("<|end_of_video|>", "<sop>")),
        ([2473, 2466, 2475], None, ()),
        (None, [2466, 2473, 2475], ()),
        (..., ..., ()),
    ],
)
def test_end_tokens_of_both_configs_and_of_the_template(checkpoint, config, generation, named):
    edit(checkpoint / "config.json", eos_token_id=config)
    edit(checkpoint / "generation_config.json", eos_token_id=generation)
    opened = Checkpoint.open(checkpoint)
    assert set(opened.manifest.stop_tokens) == {*named, *STOPS}
    assert opened.manifest.stop_tokens[: len(named)] == named
    assert set(opened.generation["eos_token_id"]) == {IDS[name] for name in (*named, *STOPS)}


def test_a_token_of_the_family_that_the_template_does_not_write(checkpoint):
    role = "{{ '<|assistant|>' if m.role == 'assistant' else '<|user|>' }}"
    template = "{% for m in messages %}" + role + "{{ m.content }}{% endfor %}{{ tools }}<|assistant|>"
    (checkpoint / "chat_template.jinja").write_text(template, encoding="utf-8")
    edit(checkpoint / "config.json", eos_token_id=2479)
    edit(checkpoint / "generation_config.json", eos_token_id=...)
    assert Checkpoint.open(checkpoint).manifest.stop_tokens == ("<|end_of_video|>", "<|endoftext|>", "<|user|>")


def test_a_base_model_keeps_the_tokens_of_its_family(checkpoint):
    (checkpoint / "chat_template.jinja").unlink()
    edit(checkpoint / "config.json", eos_token_id=2479)
    edit(checkpoint / "generation_config.json", eos_token_id=...)
    assert Checkpoint.open(checkpoint).manifest.stop_tokens == ("<|end_of_video|>", *STOPS)


@pytest.mark.parametrize("ids", ["x", [[2466]], {"a": 1}, True, -1, 2**40])
def test_what_is_no_id_is_kept_for_the_error(checkpoint, ids):
    edit(checkpoint / "config.json", eos_token_id=ids)
    assert end_token_ids({"eos_token_id": ids}) == (ids if isinstance(ids, list) else [ids])
    opened = Checkpoint.open(checkpoint)
    assert opened.manifest.stop_tokens == STOPS
    with pytest.raises(CheckpointError, match="eos_token_id is"):  # as a conversion does
        require_special_stop_tokens(opened.generation["eos_token_id"], opened.tokenizer)


def test_a_folder_of_an_earlier_version(bare_folder):
    """Its manifest has no stop tokens: the family's are in use, and those of its generation_config.json."""
    generation = bare_folder.path / "generation_config.json"
    generation.write_text('{"eos_token_id": [100, 113]}')
    opened = write_manifest(bare_folder.path, replace(bare_folder.manifest, stop_tokens=(), sampling=None))
    assert stop_tokens(ModelFolder.open(opened.path)) == (*STOPS, "<|end_of_video|>")
    generation.unlink()
    assert stop_tokens(opened) == STOPS


def test_the_end_tokens_of_a_gguf(tmp_path):
    ends = {"tokenizer__ggml__eos_token_id": 2466, "tokenizer__ggml__eot_token_id": 2479}
    opened = Checkpoint.open(write_gguf(CHECKPOINT, tmp_path / "tiny.gguf", "F16", **ends))
    assert opened.manifest.stop_tokens == ("<|endoftext|>", "<|end_of_video|>", "<|user|>", "<|observation|>")


@pytest.fixture(scope="module")
def renamed(tmp_path_factory):
    """A fine-tune whose end token <|user|> has another name, and its model folder."""
    place = tmp_path_factory.mktemp("renamed")
    checkpoint = place / "checkpoint"
    shutil.copytree(CHECKPOINT, checkpoint)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        text = (checkpoint / name).read_text(encoding="utf-8").replace("<|user|>", "<|human|>")
        text = text.replace("<|{{ turn.role }}|>", '<|{{ "human" if turn.role == "user" else turn.role }}|>')
        (checkpoint / name).write_text(text, encoding="utf-8")
    for _ in convert(checkpoint, place / "folder", "int4-npu"):
        pass
    return checkpoint, place / "folder"


@pytest.mark.slow
@pytest.mark.parametrize("device", ["CPU", "NPUW:CPU", "torch:cpu"])
def test_an_end_token_of_another_name_ends_the_reply(renamed, device):
    checkpoint, folder = renamed
    if device.startswith("torch"):
        pytest.importorskip("torch")
    with Model(checkpoint if device.startswith("torch") else folder, device=device, in_process=True) as model:
        assert "<|human|>" in model.stop_tokens
        events = list(model.reply("Who are you?", max_new_tokens=200))
    text = "".join(event.text for event in events if isinstance(event, Text))
    assert text
    assert "<|human|>" not in text
    assert isinstance(events[-1], Finish)
    assert events[-1].reason == "stop"


@pytest.mark.slow
@pytest.mark.parametrize("device", ["CPU", "torch:cpu"])
def test_an_answer_under_a_grammar_ends_there_too(renamed, device):
    checkpoint, folder = renamed
    if device.startswith("torch"):
        pytest.importorskip("torch")
    with Model(checkpoint if device.startswith("torch") else folder, device=device, in_process=True) as model:
        events = list(model.reply("Who are you?", answer=Regex("[a-z]{3,9}"), max_new_tokens=40))
    text = "".join(event.text for event in events if isinstance(event, Text))
    assert re.fullmatch("[a-z]{3,9}", text)
    assert events[-1].reason == "stop"
