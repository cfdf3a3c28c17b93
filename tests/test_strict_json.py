"""JSON from outside: what RFC 8259 does not know is refused wherever it comes in, with an error of ours."""

import json
import shutil

import pytest

from convert.samples import read_json_lines
from edge.evaluation.tool_calls import parse_arguments
from runtime import strict_json
from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.checkpoint.tokenizer import read_json
from runtime.errors import CheckpointError, EdgeError, ModelFolderError, RequestError
from runtime.events import ToolCall
from runtime.folder.model_folder import MANIFEST, ModelFolder
from runtime.grammar.grammar import JsonSchema
from runtime.messages import Message
from runtime.model import Model
from runtime.tool_call import run_call
from runtime.tools import to_tools

DEEP = 2_000
BAD = {
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": [Infinity]}',
    "-Infinity": '{"a": -Infinity}',
    "a number beyond a float": '{"a": 1e999}',
    "deep lists": '{"a": ' + "[" * DEEP + "]" * DEEP + "}",
    "deep objects": '{"a": ' * DEEP + "1" + "}" * DEEP,
    "deeper than any stack": '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}",
    "a number of many digits": '{"a": ' + "9" * 5000 + "}",
}
bad = pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())


@bad
def test_it_is_a_value_error(text):
    for given in (text, text.encode(), text.encode("utf-16"), text.encode("utf-8-sig")):
        with pytest.raises(ValueError, match=r"not a JSON value|out of range|deep|limit"):
            strict_json.parse(given)


def test_good_json_is_what_it_was():
    values = {"a": [1, 2.5, -1e300, None, True, "né 你 🎉"], "b": {"c": []}, "d": json.loads("[" * 150 + "]" * 150)}
    for text in (json.dumps(values), json.dumps(values, ensure_ascii=False)):
        assert strict_json.parse(text) == values
        assert strict_json.parse(text.encode()) == values
    assert strict_json.parse('{"a": 1, "a": 2}', pairs=list) == [("a", 1), ("a", 2)]


def add(a: float) -> float:
    """Adds nothing."""
    return a


@bad
def test_arguments_of_a_call_come_back_as_an_error(text):
    wanted = ToolCall("add", text)
    assert "not valid JSON" in wanted.problem
    result = run_call(to_tools([add]), wanted)
    assert result.error
    assert result.content.startswith("Error: the arguments are not valid JSON")
    assert parse_arguments(text) == text


@bad
def test_a_chat_goes_on_after_such_a_call(bare_folder, text):
    chat = Chat(Model(bare_folder, backend=Echo([f"add\n{text}", "\nSorry."], max_prompt_tokens=10**7)), tools=[add])
    reply = chat.send("?")
    assert (reply.text, reply.tool_results[0].error) == ("Sorry.", True)


@bad
def test_files_with_it_are_refused(bare_folder, tmp_path, text):
    path = tmp_path / "file.json"
    path.write_text(text)
    chat = Chat(Model(bare_folder, backend=Echo()))
    with pytest.raises(RequestError):
        chat.load(path)
    with pytest.raises(RequestError):
        list(read_json_lines(path))
    with pytest.raises(CheckpointError):
        read_json(path)
    shutil.copytree(bare_folder.path, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text(text)
    with pytest.raises(ModelFolderError):
        ModelFolder.open(tmp_path / "model").sampling()
    (tmp_path / "model" / MANIFEST).write_text(text)
    with pytest.raises(ModelFolderError):
        ModelFolder.open(tmp_path / "model")


@bad
def test_a_schema_with_it_is_refused(text):
    with pytest.raises(RequestError):
        JsonSchema(text)


def test_arguments_that_are_no_json_are_refused_in_a_message():
    for value in (float("nan"), float("inf"), object()):
        item = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": value}}}]}
        with pytest.raises(EdgeError) as caught:
            Message.from_json(item)
        assert caught.value.hint
