"""Every sample gives the same events however it is cut."""

import json
import re
import time
from functools import partial
from itertools import combinations, count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.events import Reasoning, Text, ToolCall, ToolCallDelta
from runtime.prompt.families import FAMILIES, ReasoningMarks
from runtime.reply.calls.call_syntax import CallOpening, Verdict
from runtime.reply.calls.json_call import JsonCallSyntax
from runtime.reply.calls.nearby_calls import NearbyCalls
from runtime.reply.calls.syntaxes import create_syntaxes
from runtime.reply.calls.text_call import TextCallSyntax
from runtime.reply.reply_parser import ReplyParser
from runtime.reply.stop_texts import overlap

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


def parser_of(names, reasoning=None, *, written=(), **options):
    """The parser of a family whose built-in tools, `written`, are called with text."""
    syntaxes = (TextCallSyntax(dict(written), MARK), JsonCallSyntax(set(names) - set(written), MARK)) if names else ()
    nearby = partial(NearbyCalls, set(names) - set(written), MARK) if names else None
    ids = (f"call_{number}" for number in count(1))
    return ReplyParser(syntaxes, MARK, reasoning, nearby=nearby, new_id=lambda: next(ids), **options)


def fed(parser, chunk):
    return [event for event, _ in parser.feed(chunk)]


def ended(parser, *, cut_off=False):
    return [event for event, _ in parser.finish(cut_off=cut_off)]


def parse(chunks, names=NAMES):
    parser = parser_of(names)
    events = [event for chunk in chunks for event in fed(parser, chunk)]
    events += ended(parser)
    check_deltas(events)
    text = "".join(event.text for event in events if isinstance(event, Text))
    return text, [event for event in events if isinstance(event, ToolCall)]


def check_deltas(events):
    """The pieces of each call add up to it, and come before it."""
    pieces = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            assert event.arguments
            name, text = pieces.get(event.id, (event.name, ""))
            pieces[event.id] = (name, text + event.arguments)
        elif isinstance(event, ToolCall):
            assert pieces.pop(event.id, (event.name, "")) == (event.name, event.arguments)
    assert not pieces


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


BROKEN_OFF = {
    "half an object": (f'f\n{{"a": 1{MARK}\nHello.', "Hello.", [("f", '{"a": 1', False)]),
    "half an object, and another call": (
        f'f\n{{"a": {{"b": 1}}, {MARK}get_time\n{{"c": 2}}',
        "",
        [("f", '{"a": {"b": 1}, ', False), ("get_time", '{"c": 2}', True)],
    ),
    "an open string, and an answer": (f'f\n{{"a": "Par{MARK}\nHello.', "Hello.", [("f", '{"a": "Par', False)]),
    "an open string, and a call": (
        f'f\n{{"a": "Par{MARK}f\n{{}}',
        "",
        [("f", '{"a": "Par', False), ("f", "{}", True)],
    ),
    "an open string, and the end": (f'f\n{{"a": "Par{MARK}Hello', "Hello", [("f", '{"a": "Par', False)]),
    "a mark that somebody wants written": (
        f'f\n{{"a": "Say {MARK} and \\"{MARK}"}}\nDone.',
        "Done.",
        [("f", f'{{"a": "Say {MARK} and \\"{MARK}"}}', True)],
    ),
    "part of a mark": ('f\n{"a": "<|assi", "b": <|assis}', "", [("f", '{"a": "<|assi", "b": <|assis}', True)]),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "text", "calls"), BROKEN_OFF.values(), ids=BROKEN_OFF.keys())
def test_the_assistants_token_ends_a_call_at_every_split(reply, text, calls):
    wanted = (text, [ToolCall(n, a, f"call_{i}", complete) for i, (n, a, complete) in enumerate(calls, start=1)])
    assert parse(reply) == wanted
    for cut in range(len(reply) + 1):
        assert parse([reply[:cut], reply[cut:]]) == wanted


def test_a_reply_that_was_cut_off_keeps_a_mark_in_its_string():
    parser = parser_of(["f"])
    events = [*fed(parser, f'f\n{{"a": "{MARK} is'), *ended(parser, cut_off=True)]
    check_deltas(events)
    assert events[-1] == ToolCall("f", f'{{"a": "{MARK} is', "call_1", complete=False)


LONG = {
    "arguments": (lambda n: 'f\n{"a": "' + "x" * 4 * n + '"}'),
    "nested arguments": (lambda n: 'f\n{"a": ' + "[" * n + "]" * n + "}"),
    "arguments with a mark": (lambda n: 'f\n{"a": "' + MARK + "x" * n + '"}'),
    "a call of text": (lambda n: "python\n" + "x" * n),
    "a line": (lambda n: "x" * n),
    "lines": (lambda n: "x\n" * (n // 2)),
    "blanks after a name": (lambda n: "f\n" + " " * n),
    "blanks before a newline": (lambda n: "f" + " " * n),
    "blanks after a mark": (lambda n: MARK + " " * n),
    "reasoning": (lambda n: "<think>" + "x" * n),
    "blanks before reasoning": (lambda n: " " * n),
    "arguments in an object": (lambda n: '{"name": "f", "arguments": {"a": "' + "x" * n),
    "a list of calls": (lambda n: "[" + '{"name": "f", "arguments": {}},' * (n // 31)),
    "fences": (lambda n: "```\n" * (n // 4)),
    "a fence's language": (lambda n: "a\n```" + "x" * n),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["a character at a time", "at once"])
@pytest.mark.parametrize("reply", LONG.values(), ids=LONG.keys())
def test_a_reply_costs_as_much_as_it_is_long(reply, whole):
    def seconds(n):
        text = reply(n)
        parser = parser_of(["f", "python"], WRITTEN, written={"python": "code"})
        start = time.process_time()
        events = [event for chunk in ([text] if whole else text) for event in fed(parser, chunk)] + ended(parser)
        assert events
        return time.process_time() - start

    seconds(1000)
    short, long = min(seconds(5_000) for _ in range(3)), seconds(160_000)
    assert long < 32 * 6 * max(short, 1e-3)  # twice as long would cost four times as much, were it quadratic: 1,024


def test_without_tools_all_is_text_at_once():
    parser = parser_of(())
    assert list(fed(parser, "\nget_")) == [Text("get_")]
    assert list(fed(parser, "time\n{}<|")) == [Text("time\n"), Text("{}<|")]


def test_text_is_held_back_only_while_it_may_be_a_call():
    parser = parser_of(NAMES)
    assert list(fed(parser, "\nget")) == []
    assert list(fed(parser, " it")) == [Text("get it")]
    assert list(fed(parser, " now")) == [Text(" now")]


def test_the_ids_of_calls_are_unique_across_replies():
    ids = []
    for _ in range(100):
        parser = ReplyParser((JsonCallSyntax({"f"}, MARK),), MARK, nearby=partial(NearbyCalls, ("f",), MARK))
        events = fed(parser, f"f\n{{}}{MARK}f\n{{}}")
        ids += [event.id for event in events if isinstance(event, ToolCall)]
        assert {event.id for event in events if isinstance(event, ToolCallDelta)} == set(ids[-2:])
    assert len(set(ids)) == 200
    assert all(re.fullmatch(r"call_[0-9a-zA-Z]{24}", id) for id in ids)


WRITTEN_CALLS = {
    "code": ("python\nprint(1)\n\nf\n{}", "", [("python", {"code": "print(1)\n\nf\n{}"})]),
    "no code": ("python\n", "", [("python", {"code": ""})]),
    "quotes and newlines": ('python\n"\\n\t\u4f60🎉"\n', "", [("python", {"code": '"\\n\t\u4f60🎉"\n'})]),
    "two": (f"python\n1{MARK}cogview\na cat", "", [("python", {"code": "1"}), ("cogview", {"prompt": "a cat"})]),
    "an empty one and another": (f"python\n{MARK}python\n2", "", [("python", {"code": ""}), ("python", {"code": "2"})]),
    "after a function": (f"f\n{{}}{MARK}python\n1", "", [("f", {}), ("python", {"code": "1"})]),
    "before a function": (f"python\n1{MARK}f\n{{}}", "", [("python", {"code": "1"}), ("f", {})]),
    "part of a mark is code": ("python\n1 <|assi", "", [("python", {"code": "1 <|assi"})]),
    "an answer": (f"\npython\n1{MARK}\npython\n2", f"python\n1{MARK}\npython\n2", []),
    "a word of an answer": ("\nI like\npython\n.", "I like\npython\n.", []),
    "a word after a call": ("f\n{}\npython\n1", "python\n1", [("f", {})]),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "text", "calls"), WRITTEN_CALLS.values(), ids=WRITTEN_CALLS.keys())
def test_calls_of_text_at_every_split(reply, text, calls):
    for cut in range(len(reply) + 1):
        for chunks in ([reply[:cut], reply[cut:]], [*reply[:cut], reply[cut:]]):
            parser = parser_of(["f", "python", "cogview"], written={"python": "code", "cogview": "prompt"})
            events = [event for chunk in chunks for event in fed(parser, chunk)] + ended(parser)
            check_deltas(events)
            assert "".join(event.text for event in events if isinstance(event, Text)) == text
            found = [event for event in events if isinstance(event, ToolCall)]
            assert [(call.name, json.loads(call.arguments)) for call in found] == calls
            assert all(call.complete for call in found)


def test_a_call_of_text_that_is_cut_off_says_so():
    parser = parser_of(["python"], written={"python": "code"})
    events = [*fed(parser, "python\nprint("), *ended(parser, cut_off=True)]
    check_deltas(events)
    assert events[-1] == ToolCall("python", '{"code": "print(', "call_1", complete=False)


PROMPTED = ReasoningMarks("<think>", "</think>", prompted=True)
WRITTEN = ReasoningMarks("<think>", "</think>", prompted=False)
THOUGHTS = {
    "a thought and an answer": (PROMPTED, "\nHm. 2 < 3?</think>\n\nYes.\n", "Hm. 2 < 3?", "Yes.\n", []),
    "a thought and a call": (PROMPTED, "\nHm.\n</think>\nf\n{}", "Hm.\n", "", [("f", "{}")]),
    "a call inside a thought is thought": (PROMPTED, "f\n{}\n</think>No.", "f\n{}\n", "No.", []),
    "a thought that does not end": (PROMPTED, "Hm.</thin", "Hm.</thin", "", []),
    "an empty thought": (PROMPTED, "\n</think>\nYes.", "", "Yes.", []),
    "a written thought": (WRITTEN, "\n<think>\nHm.</think>\nf\n{}", "Hm.", "", [("f", "{}")]),
    "no thought": (WRITTEN, "\nYes <think>.", "", "Yes <think>.", []),
    "no thought, and a call": (WRITTEN, "f\n{}", "", "", [("f", "{}")]),
    "part of a mark": (WRITTEN, "<thi", "", "<thi", []),
}


@pytest.mark.parametrize(("marks", "reply", "thought", "text", "calls"), THOUGHTS.values(), ids=THOUGHTS.keys())
def test_reasoning_at_every_split(marks, reply, thought, text, calls):
    for cut in range(len(reply) + 1):
        for chunks in ([reply[:cut], reply[cut:]], [*reply[:cut], reply[cut:]]):
            parser = parser_of(NAMES, marks)
            events = [event for chunk in chunks for event in fed(parser, chunk)] + ended(parser)
            check_deltas(events)
            assert "".join(event.text for event in events if isinstance(event, Reasoning)) == thought
            assert "".join(event.text for event in events if isinstance(event, Text)) == text
            assert [(event.name, event.arguments) for event in events if isinstance(event, ToolCall)] == calls


def test_arguments_stream_while_they_are_written():
    parser = parser_of(["f"])
    assert list(fed(parser, 'f\n{"a": ')) == [ToolCallDelta("call_1", "f", '{"a": ')]
    assert list(fed(parser, "1}")) == [ToolCallDelta("call_1", "f", "1}"), ToolCall("f", '{"a": 1}', "call_1")]


PROBLEMS = {
    "none": (ToolCall("f", '{"a": 1}'), ""),
    "cut off": (ToolCall("f", '{"a": 1', complete=False), "cut off"),
    "broken": (ToolCall("f", "{a: }"), "not valid JSON"),
    "no object": (ToolCall("f", "[]"), "not a JSON object"),
}


@pytest.mark.parametrize(("call", "words"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_broken_arguments_are_reported_with_their_text(call, words):
    assert words in call.problem
    assert bool(call.problem) == bool(words)


json_objects = st.dictionaries(
    st.text(), st.recursive(st.none() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists)
)


@pytest.mark.slow
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


class TaggedCallSyntax:
    """A call syntax that GLM-4 does not have: <tool_call>NAME{…}</tool_call>."""

    OPEN, CLOSE = "<tool_call>", "</tool_call>"

    def opening(self, name):
        return self.OPEN + name

    def grammar(self, arguments):
        return arguments

    def open(self, text, *, at_start, at_end):
        head, brace, _ = text.partition("{")
        if head.startswith(self.OPEN) and brace:
            return CallOpening(head.removeprefix(self.OPEN), len(head), TaggedBody(self.CLOSE))
        may_follow = not brace and (self.OPEN.startswith(head[: len(self.OPEN)]) and "\n" not in head)
        return Verdict.UNDECIDED if may_follow and not at_end else Verdict.NO_CALL


class TaggedBody:
    opening, is_constrainable = "", True

    def __init__(self, close):
        self.over = self.complete = False
        self._close = close

    def read(self, text, *, at_end):
        if self.over:
            return 0, ""
        arguments, closed, _ = text.partition(self._close)
        if closed:
            self.over = self.complete = True
            return len(arguments) + len(closed), arguments
        end = len(text) - overlap(text, self._close)
        return end, text[:end]

    def finish(self, rest, *, cut_off):
        self.over = True
        return rest


def test_a_new_call_syntax_is_a_class_beside_the_others():
    """At every split, mixed with GLM-4's own calls, and without a change to any parser."""
    reply = 'Let me see.\n<tool_call>g{"a": "<tool"}</tool_call>\nf\n{}'
    for cut in range(len(reply) + 1):
        for chunks in ([reply[:cut], reply[cut:]], [*reply[:cut], reply[cut:]]):
            parser = ReplyParser((JsonCallSyntax({"f"}, MARK), TaggedCallSyntax()), MARK)
            events = [event for chunk in chunks for event in fed(parser, chunk)] + ended(parser)
            check_deltas(events)
            assert "".join(event.text for event in events if isinstance(event, Text)) == "Let me see.\n"
            calls = [event for event in events if isinstance(event, ToolCall)]
            assert [(call.name, call.arguments, call.complete) for call in calls] == [
                ("g", '{"a": "<tool"}', True),
                ("f", "{}", True),
            ]


def test_every_call_syntax_of_a_family_is_known():
    tool = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    for family in FAMILIES.values():
        assert len(create_syntaxes(family, [tool])) == len(family.call_syntaxes)
