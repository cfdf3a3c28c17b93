import pytest

from runtime.errors import RequestError
from runtime.events import ToolCall, Usage
from runtime.messages import Message
from runtime.prompt.families.layout import to_native_messages

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
READ = {
    "text": ({"role": "user", "content": "Hi"}, Message("user", "Hi")),
    "text parts": (
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        Message("user", "ab"),
    ),
    "a developer": ({"role": "developer", "content": "Be brief."}, Message("system", "Be brief.")),
    "calls, content null": (
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        Message("assistant", tool_calls=(ToolCall("f", '{"a": 1}', "call_1"),)),
    ),
    "arguments as an object": (
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": "é"}}}]},
        Message("assistant", tool_calls=(ToolCall("f", '{"a": "é"}'),)),
    ),
    "a result": (
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        Message("tool", "3", tool_call_id="call_1"),
    ),
    "reasoning": (
        {"role": "assistant", "reasoning_content": "hm", "content": "Yes"},
        Message("assistant", "Yes", "hm"),
    ),
}


@pytest.mark.parametrize(("data", "message"), READ.values(), ids=READ.keys())
def test_openai_messages_are_read(data, message):
    assert Message.from_json(data) == message
    assert Message.from_json(message.to_json()) == message


REFUSED = {
    "no object": "Hi",
    "no role": {"content": "Hi"},
    "a strange role": {"role": "king", "content": "Hi"},
    "a picture": {"role": "user", "content": [{"type": "image_url", "image_url": {"url": ""}}]},
    "a number": {"role": "user", "content": 1},
    "a list of numbers": {"role": "user", "content": [1]},
    "a call without a name": {"role": "assistant", "tool_calls": [{"function": {}}]},
    "a call that is text": {"role": "assistant", "tool_calls": ["f"]},
    "calls that are no list": {"role": "assistant", "tool_calls": 1},
    "arguments that are a number": {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 1}}]},
    "a name that is a number": {"role": "user", "content": "Hi", "name": 1},
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_message_is_refused_with_a_cure(data):
    with pytest.raises(RequestError) as caught:
        Message.from_json(data)
    assert caught.value.hint


def test_parallel_results_are_put_in_the_order_of_their_calls():
    calls = tuple(ToolCall(name, "{}", name) for name in "abc")
    results = [Message("tool", f"of {name}", tool_call_id=name) for name in "cxab"]
    laid_out = list(to_native_messages([Message("assistant", tool_calls=calls), *results, Message("user", "?")]))
    assert [item["content"] for item in laid_out[3:]] == ["of a", "of b", "of c", "of x", "?"]


def test_usage_of_rounds_adds_up_and_the_first_token_counts_once():
    total = Usage() + Usage(10, 2, 0.5, 1.0) + Usage(20, 3, 0.1, 2.0)
    assert total == Usage(30, 5, 0.5, 3.0)
