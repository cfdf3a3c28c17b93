"""Every sample gives the same events however it is cut."""

import json
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.messages import Text, ToolCall
from runtime.parsing import ReplyParser

NAMES = ("get_weather", "get_time", "f")
MARK = "<|assistant|>"

NESTED = r'{"a": "}\"{\\", "b": {"c": []}}'

SAMPLES = {
    "an answer": ("\nHello.\nHow are you?", "Hello.\nHow are you?", []),
    "an answer without GLM-4's first newline": ("Hello.", "Hello.", []),
    "only the first newline is GLM-4's": ("\n\nHello.", "\nHello.", []),
    "nothing": ("", "", []),
    "a call": ('get_weather\n{"city": "Paris"}', "", [("get_weather", '{"city": "Paris"}')]),
    "a call after GLM-4's newline": ('\nget_weather\n{"city": "巴黎"}', "", [("get_weather", '{"city": "巴黎"}')]),
    "blanks around": ("get_time  \n  \n {} \n", "", [("get_time", "{}")]),
    "braces and quotes in strings": ("f\n" + NESTED, "", [("f", NESTED)]),
    "text before a call": ("\nLet me see.\nf\n{}", "Let me see.\n", [("f", "{}")]),
    "text and a marked call": (f"\nLet me see.{MARK}f\n{{}}", "Let me see.", [("f", "{}")]),
    "two calls": ("f\n{}\nget_time\n{}", "", [("f", "{}"), ("get_time", "{}")]),
    "two calls side by side": ("f\n{}get_time\n{}", "", [("f", "{}"), ("get_time", "{}")]),
    "two marked calls": (f'f\n{{"a": 1}}{MARK}f\n{{"a": 2}}', "", [("f", '{"a": 1}'), ("f", '{"a": 2}')]),
    "a marked call on a new line": (f"f\n{{}}\n{MARK}\nget_time\n{{}}", "", [("f", "{}"), ("get_time", "{}")]),
    "text after a call": ("f\n{}\nDone.", "Done.", [("f", "{}")]),
    "a mark and text after a call": (f"f\n{{}}{MARK}\nDone.", "Done.", [("f", "{}")]),
    "a name that was not offered": ("get_news\n{}", "get_news\n{}", []),
    "a name with more behind it": ("get_weathers\n{}", "get_weathers\n{}", []),
    "a name in a sentence": ("\nget_weather is a tool\n{}", "get_weather is a tool\n{}", []),
    "a name and no object": ("get_time\nnoon", "get_time\nnoon", []),
    "a name and nothing": ("get_time", "get_time", []),
    "a name and a newline": ("get_time\n", "get_time\n", []),
    "part of a name": ("get_", "get_", []),
    "a mark that is text": (f"a {MARK} b", f"a {MARK} b", []),
    "part of a mark": ("a <|assi", "a <|assi", []),
    "part of a mark after a call": ("f\n{}<|assi", "<|assi", [("f", "{}")]),
    "JSON that is an answer": ('\n{"f": 1}', '{"f": 1}', []),
    "broken JSON": ("f\n{a: }", "", [("f", "{a: }")]),
}  # fmt: skip


def parse(chunks, names=NAMES):
    parser = ReplyParser(names, MARK)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    events += parser.finish()
    text = "".join(event.text for event in events if isinstance(event, Text))
    return text, [event for event in events if isinstance(event, ToolCall)]


@pytest.mark.parametrize(("reply", "text", "calls"), SAMPLES.values(), ids=SAMPLES.keys())
def test_every_split(reply, text, calls):
    wanted = (text, [ToolCall(name, arguments, f"call_{i}") for i, (name, arguments) in enumerate(calls, start=1)])
    assert parse([reply]) == wanted
    assert parse(reply) == wanted  # character by character
    for cuts in [*combinations(range(len(reply) + 1), 1), *combinations(range(len(reply) + 1), 2)]:
        edges = [0, *cuts, len(reply)]
        assert parse([reply[a:b] for a, b in pairwise(edges)]) == wanted


@pytest.mark.parametrize("end", range(len("f\n{"), len('f\n{"a": "b"}')))
def test_a_call_that_is_cut_off_keeps_what_arrived(end):
    reply = 'f\n{"a": "b"}'[:end]
    assert parse(reply) == ("", [ToolCall("f", reply[2:], "call_1", complete=False)])


def test_without_tools_all_is_text_at_once():
    parser = ReplyParser((), MARK)
    assert list(parser.feed("\nget_")) == [Text("get_")]
    assert list(parser.feed("time\n{}<|")) == [Text("time\n"), Text("{}<|")]


def test_text_is_held_back_only_while_it_may_be_a_call():
    parser = ReplyParser(NAMES, MARK)
    assert list(parser.feed("\nget")) == []
    assert list(parser.feed(" it")) == [Text("get it")]
    assert list(parser.feed(" now")) == [Text(" now")]


def test_calls_are_numbered_from_where_the_chat_is():
    assert [event.id for event in ReplyParser(["f"], MARK, first_call=7).feed("f\n{}f\n{}")] == ["call_7", "call_8"]


json_objects = st.dictionaries(
    st.text(), st.recursive(st.none() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists)
)


@given(st.lists(st.tuples(st.sampled_from(NAMES), json_objects), min_size=1, max_size=3), st.data())
def test_any_call_parses_back_to_itself(calls, data):
    reply = MARK.join(f"{name}\n{json.dumps(arguments, ensure_ascii=False)}" for name, arguments in calls)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=6)))
    edges = [0, *cuts, len(reply)]
    text, parsed = parse([reply[a:b] for a, b in pairwise(edges)])
    assert text == ""
    assert [(call.name, json.loads(call.arguments)) for call in parsed] == calls


@given(st.text(), st.data())
def test_nothing_is_lost_of_any_text(reply, data):
    cut = data.draw(st.integers(0, len(reply)))
    text, calls = parse([reply[:cut], reply[cut:]])
    assert not calls
    assert text == reply.removeprefix("\n")
