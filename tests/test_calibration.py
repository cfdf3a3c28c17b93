import json
import re

import numpy as np
import pytest

from convert.weights import calibration
from edge.demo import CHECKPOINT
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import ConversionError, TemplateError
from runtime.prompt.families import BASE, FAMILIES
from runtime.prompt.template import ChatTemplate

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.open(CHECKPOINT)


def template(checkpoint):
    return ChatTemplate(checkpoint.chat_template(), checkpoint.family, checkpoint.tokenizer.special_tokens.keys())


def test_ours_are_of_every_kind(checkpoint):
    samples = calibration.read_calibration_samples(calibration.BUILT_IN)
    assert len(samples) >= 30
    assert sum(bool(sample.tools) for sample in samples) >= 8
    said = ["".join((sample.text, *(message.content for message in sample.messages))) for sample in samples]
    assert sum(any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in said) >= 10
    assert sum("def " in text or "#include" in text or "SELECT" in text for text in said) >= 4
    ids = calibration.token_ids(samples, checkpoint.family, template(checkpoint), checkpoint.tokenizer)
    assert len(ids) == len(samples)
    assert all(0 < len(each) <= calibration.MAX_TOKENS and each.dtype == np.int64 for each in ids)
    with_tools = next(i for i, sample in enumerate(samples) if sample.tools)
    text = checkpoint.tokenizer.tokenizer.decode(ids[with_tools].tolist(), skip_special_tokens=False)
    assert text.startswith("[gMASK]<sop><|system|>")
    assert re.search(r"<\|assistant\|>get_weather ?\n\{", text)
    assert "<|observation|>" in text


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_lay_them_out(checkpoint, name):
    """With the embedded checkpoint's template, as far as the family has tools."""
    family = FAMILIES[name]
    shown = None if family is BASE else ChatTemplate(checkpoint.chat_template(), family, ())
    ids = calibration.token_ids(
        calibration.read_calibration_samples(calibration.BUILT_IN), family, shown, checkpoint.tokenizer
    )
    assert min(len(each) for each in ids) > 10


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_a_template_may_reject_ours_but_not_the_users(checkpoint, role):
    """Such as Gemma's "System role not supported", or Llama's "only supports single tool-calls at once"."""
    samples = calibration.read_calibration_samples(calibration.BUILT_IN)
    strict = "{% if ROLE in messages | map(attribute='role') %}{{ raise_exception('no') }}{% endif %}"
    strict = strict.replace("ROLE", repr(role))
    shown = ChatTemplate(strict + checkpoint.chat_template(), checkpoint.family, ())
    ids = calibration.token_ids(samples, checkpoint.family, shown, checkpoint.tokenizer, built_in=True)
    assert len(ids) == len(samples)
    assert min(len(each) for each in ids) > 10
    with pytest.raises(TemplateError, match="rejects"):
        calibration.token_ids(samples, checkpoint.family, shown, checkpoint.tokenizer)


def test_the_users_own(tmp_path, checkpoint):
    lines = [
        {"text": "Once upon a time"},
        {"messages": [{"role": "user", "content": "2 + 2?"}], "tools": [TOOL, TOOL["function"]]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "long " * 2000}]}]},
    ]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n\n".join(json.dumps(line) for line in lines))
    text, chat, long = calibration.read_calibration_samples(path)
    assert (text.text, chat.messages[0].content, [tool["name"] for tool in chat.tools]) == (
        "Once upon a time",
        "2 + 2?",
        ["add", "add"],
    )
    ids = calibration.token_ids((text, chat, long), checkpoint.family, template(checkpoint), checkpoint.tokenizer)
    assert len(ids[2]) == calibration.MAX_TOKENS


WRONG = {
    "no JSON": ("{", r"texts\.jsonl:2: not valid JSON: Expecting"),
    "no object": ("[]", r"texts\.jsonl:2: not a JSON object"),
    "an empty text": ('{"text": " "}', r"texts\.jsonl:2: 'text' must be a string that is not empty"),
    "neither": ('{"prompt": "x"}', r'texts\.jsonl:2: needs "text" or "messages"'),
    "a role that is not": ('{"messages": [{"role": "king", "content": "x"}]}', r"texts\.jsonl:2: unknown role 'king'"),
    "nothing said": (
        '{"messages": [{"role": "system", "content": "x"}]}',
        r"texts\.jsonl:2: no user or assistant message has any text",
    ),
    "a tool without a name": (
        '{"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}',
        r"texts\.jsonl:2: a tool has no name",
    ),
}


@pytest.mark.parametrize(("line", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_line_is_named(tmp_path, line, message):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(ConversionError, match=message) as caught:
        calibration.read_calibration_samples(path)
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00", None])
def test_an_unreadable_file_is_refused(tmp_path, content):
    path = tmp_path / "texts.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"contains no samples|not UTF-8|cannot be read"):
        calibration.read_calibration_samples(path)
