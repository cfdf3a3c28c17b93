"""The device echo:FILE: replies from a script, calls included, through the real parser."""

import pytest

from edge.demo import CHECKPOINT
from runtime.errors import RequestError
from runtime.model import Model
from runtime.reply.reply import Reply
from runtime.tools import Tool

SCRIPT = r"""
{"when": ["Write a.txt", "done: a.txt"], "reply": "\nIt is written."}

{"when": "Write a.txt", "reply": "\nI will.<|assistant|>write\n{\"path\": \"a.txt\", \"text\": \"done: a.txt\"}"}
{"when": "Twice", "reply": "write\n{\"path\": \"a\"}<|assistant|>write\n{\"path\": \"b\"}"}
{"reply": "\nHello."}
"""
WRITE = Tool("write", "Write a file", {"type": "object", "properties": {"path": {"type": "string"}}})


@pytest.fixture
def model(tmp_path):
    script = tmp_path / "Script.jsonl"
    script.write_text(SCRIPT, encoding="utf-8")
    with Model(CHECKPOINT, device=f"echo:{script}") as model:
        yield model


@pytest.mark.parametrize("strict", [False, True])
def test_a_reply_is_chosen_by_the_prompt(model, strict):
    """Under `strict`, the engine is asked twice for one reply, which it continues."""

    def reply(text, **settings):
        return Reply.from_events(model.reply(text, [WRITE], strict=strict, **settings))

    assert reply("Who are you?").text == "Hello."
    for _ in range(2):  # the script has no state
        called = reply("Write a.txt")
        assert called.text == "I will."
        assert [call.arguments for call in called.tool_calls] == ['{"path": "a.txt", "text": "done: a.txt"}']
    assert reply("Write a.txt. done: a.txt").text == "It is written."
    assert [call.arguments for call in reply("Twice").tool_calls] == ['{"path": "a"}', '{"path": "b"}']
    assert reply("x" * 1_000_000 + "Write a.txt", max_tokens=9).finish_reason == "length"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b'{"reply": 1}', "line 1"),
        (b'{"reply": "a", "if": "b"}', "line 1"),
        (b'\n{"reply": "a", "when": [1]}', "line 2"),
        (b"Hello", "line 1"),
        (b"\xff", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_script_that_is_none(tmp_path, line, named):
    script = tmp_path / "script.jsonl"
    if line is not None:
        script.write_bytes(line)
    with pytest.raises(RequestError, match=named) as error:
        Model(CHECKPOINT, device=f"ECHO:{script}")
    assert error.value.hint
