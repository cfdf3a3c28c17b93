"""Calls in nearby shapes are calls only where the reply is nothing else; every sample gives the same events however it
is cut.
"""

import json
import random
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.backends.backend import Delta
from runtime.backends.echo import Echo
from runtime.events import Finish, Reasoning, Text, ToolCall, ToolCallDelta, Usage
from runtime.grammar.grammar import Choice, JsonObject, JsonSchema
from runtime.messages import Message
from runtime.model import Model
from runtime.prompt.families import FAMILIES, ReasoningMarks
from runtime.reply.calls.json_call import JsonCallSyntax
from runtime.reply.calls.nearby_calls import NearbyCalls
from runtime.reply.calls.syntaxes import create_nearby, create_syntaxes
from runtime.reply.calls.text_call import TextCallSyntax
from runtime.reply.constraint import Constraint
from runtime.reply.reply import Reply
from runtime.reply.reply_parser import ReplyParser
from runtime.sampling import Sampling
from runtime.vocabulary import Vocabulary

MARK = "<|assistant|>"
NAMES = ("get_weather", "get_weather_of_week", "get_time", "create_user")
PARIS = '{"city": "Paris"}'
WEATHER = [("get_weather", PARIS)]
BOTH = [("get_weather", PARIS), ("get_time", "{}")]
OBJECT = f'{{"name": "get_weather", "arguments": {PARIS}}}'
CLOCK = '{"name": "get_time", "arguments": {}}'
ODD = r'{"text": "}\"```\\", "list": [{"a": "<|assistant|>"}, {}]}'

# The names of offered tools on a line, or before an object.
LINES = {
    "CRLF": (f"get_weather\r\n{PARIS}", WEATHER),
    "CRLF at the end, too": (f"get_weather\r\n{PARIS}\r\n", WEATHER),
    "a tab": (f"get_weather\t\n{PARIS}", WEATHER),
    "a blank before": (f" get_weather\n{PARIS}", WEATHER),
    "a blank after GLM-4's newline": (f"\n get_weather\n{PARIS}", WEATHER),
    "newlines before": (f"\n\nget_weather\r\n{PARIS}", WEATHER),
    "on one line": (f"get_weather {PARIS}", WEATHER),
    "side by side": (f"get_weather{PARIS}", WEATHER),
    "a name that begins like another": ("get_weather_of_week {}", [("get_weather_of_week", "{}")]),
    "fenced arguments": (f"get_weather\n```json\n{PARIS}\n```", WEATHER),
    "fenced arguments without a language": (f"get_weather\n```\n{PARIS}\n```\n", WEATHER),
    "two with CRLF": (f"get_weather\r\n{PARIS}\r\nget_time\r\n{{}}", BOTH),
    "two with a mark": (f"get_weather\r\n{PARIS}{MARK}get_time\n{{}}", BOTH),
    "a mark before": (f"{MARK}get_weather\r\n{PARIS}", WEATHER),
    "GLM-4's own, and then another": (f"get_weather\n{PARIS}\n get_time\r\n{{}}", BOTH),
    "another, and then GLM-4's own": (f" get_weather\n{PARIS}\nget_time\n{{}}", BOTH),
    "braces, quotes, fences and marks in strings": (f"get_time\r\n{ODD}", [("get_time", ODD)]),
    "arguments on several lines": (
        'get_weather\r\n{\r\n  "city": "Paris"\r\n}',
        [("get_weather", '{\r\n  "city": "Paris"\r\n}')],
    ),
}

OBJECTS = {
    "an object": (OBJECT, WEATHER),
    "after GLM-4's newline": (f"\n{OBJECT}\n", WEATHER),
    "parameters": (OBJECT.replace("arguments", "parameters"), WEATHER),
    "arguments as JSON text": (f'{{"name": "get_weather", "arguments": {json.dumps(PARIS)}}}', WEATHER),
    "blanks": (f'{{\n  "name" : "get_weather" ,\n  "arguments" : {PARIS}\n}}', WEATHER),
    "no blanks": ('{"name":"get_time","arguments":{}}', [("get_time", "{}")]),
    "two objects": (f"{OBJECT}\n{CLOCK}", BOTH),
    "a list": (f"[{OBJECT}, {CLOCK}]", BOTH),
    "a list on several lines": (f"[\n  {OBJECT},\n  {CLOCK}\n]\n", BOTH),
    "a fence": (f"```json\n{OBJECT}\n```", WEATHER),
    "a fence after GLM-4's newline": (f"\n```json\n{OBJECT}\n```\n", WEATHER),
    "a fence with CRLF": (f"```json\r\n{OBJECT}\r\n```\r\n", WEATHER),
    "a fence without a language": (f"```\n{OBJECT}\n```", WEATHER),
    "a fence around a list": (f"```json\n[{OBJECT}, {CLOCK}]\n```", BOTH),
    "a fence around two": (f"```json\n{OBJECT}\n{CLOCK}\n```", BOTH),
    "a fence around GLM-4's own": (f"```json\nget_weather\n{PARIS}\n```", WEATHER),
    "two fences": (f"```json\n{OBJECT}\n```\n\n```json\n{CLOCK}\n```", BOTH),
    "GLM-4's own, and then a fence": (f"get_weather\n{PARIS}\n```json\n{CLOCK}\n```", BOTH),
    "tags": (f"<tool_call>\n{OBJECT}\n</tool_call>", WEATHER),
    "two tags": (f"<tool_call>{OBJECT}</tool_call>\n<tool_call>{CLOCK}</tool_call>", BOTH),
    "a tool whose arguments look like a call": (
        f'{{"name": "create_user", "arguments": {OBJECT}}}',
        [("create_user", OBJECT)],
    ),
}

CALLS = LINES | OBJECTS

# The whole sample is the answer, but for GLM-4's first newline.
TEXTS = {
    "a line in a sentence": f"Call it: get_weather {PARIS}",
    "a sentence before": f"I look it up.\nget_weather\r\n{PARIS}",
    "a sentence behind": f"get_weather\r\n{PARIS}\r\nThat is how it is called.",
    "a word on the line": f"get_weather now\r\n{PARIS}",
    "a tool that was not offered": 'get_news\r\n{"city": "Paris"}',
    "a name with more behind it": f"get_weathers\r\n{PARIS}",
    "another case": f"Get_Weather\r\n{PARIS}",
    "no arguments": "get_time\r\n",
    "a list as arguments": 'get_weather\r\n["Paris"]',
    "arguments that are not JSON": "get_weather\r\n{city: Paris}",
    "open arguments": 'get_weather\r\n{"city": "Paris"',
    "a colon": f"get_weather: {PARIS}",
    "parentheses": f"get_weather({PARIS})",
    "an object that is an answer": PARIS,
    "an object with a tool that was not offered": OBJECT.replace("weather", "news"),
    "an object with another key first": f'{{"arguments": {PARIS}, "name": "get_weather"}}',
    "an object with a further key": OBJECT.replace("}}", '}, "id": 1}'),
    "an object without arguments": '{"name": "get_time"}',
    "null as arguments": '{"name": "get_time", "arguments": null}',
    "JSON text that is no object": '{"name": "get_time", "arguments": "[]"}',
    "text as arguments": '{"name": "get_time", "arguments": "now"}',
    "a blank in the name": OBJECT.replace("get_weather", "get_weather "),
    "an object and a sentence": f"{OBJECT}\nThis object calls the tool.",
    "an empty list": "[]",
    "a list that is an answer": '["get_weather", "get_time"]',
    "a list with a comma too many": f"[{OBJECT},]",
    "a list that mixes": f"[{OBJECT}, 1]",
    "a fence in an explanation": f"The call looks like this:\n```json\n{OBJECT}\n```\nIt returns the weather.",
    "a fence behind a sentence": f"I would call:\n\n```json\n{OBJECT}\n```",
    "a fence before a sentence": f"```json\n{OBJECT}\n```\nThis is how the tool is called.",
    "GLM-4's own in a fence in an explanation": f"Like this:\n```\nget_weather\n{PARIS}\n```\nDone.",
    "GLM-4's own in tildes": f"Like this:\n~~~json\nget_weather\n{PARIS}\n~~~",
    "GLM-4's own in a longer fence": f"Like this:\n````\n```\nget_weather\n{PARIS}\n```\nget_time\n{{}}\n````",
    "GLM-4's own in an indented fence": f"Like this:\n   ```text\nget_weather\n{PARIS}\n   ```",
    "GLM-4's own in a fence at the start, and a sentence": f"```\nget_weather\n{PARIS}\n```\nThat is a call.",
    "GLM-4's own in a list's fence": f"Steps:\n1. ```\nget_weather\n{PARIS}\n   ```",
    "a fence that is not closed": f"```json\n{OBJECT}\n",
    "half a fence": f"```json\n{OBJECT}\n``",
    "a fence of four": f"````json\n{OBJECT}\n````",
    "a fence of another language": f"```python\n{OBJECT}\n```",
    "a fence around an answer": f"```json\n{PARIS}\n```",
    "an empty fence": "```json\n```",
    "a fence and a sentence between": f"```json\n{OBJECT}\n```\nand\n```json\n{CLOCK}\n```",
    "code": "```python\nget_weather('Paris')\n```\n",
    "tags that are not closed": f"<tool_call>{OBJECT}",
    "tags around GLM-4.5's own": "<tool_call>get_time\n<arg_key>city</arg_key>\n<arg_value>x</arg_value></tool_call>",
    "part of a fence": "``",
    "inline code": f"`get_weather {PARIS}`",
    "part of a tag": "<tool",
    "only blanks": " \n ",
}  # fmt: skip

MIXED = {
    "a fence that is closed, and GLM-4's own call": (
        f"\nFirst:\n```\nx\n```\nget_weather\n{PARIS}",
        "First:\n```\nx\n```\n",
        WEATHER,
    ),
    "a list's fence that is closed, and GLM-4's own call": (
        f"\n- ```\n  x\n    ```\nget_weather\n{PARIS}",
        "- ```\n  x\n    ```\n",
        WEATHER,
    ),
    "an open fence, a mark and a call": (f"\nA:\n```\nx{MARK}get_weather\n{PARIS}", "A:\n```\nx", WEATHER),
    "inline code, and GLM-4's own call": ("\n```x``` is code\nget_time\n{}", "```x``` is code\n", BOTH[1:]),
    "GLM-4's own call, and then an answer that looks like another": (
        f"get_weather\n{PARIS}\n```json\n{CLOCK}\n```\nis next.",
        f"```json\n{CLOCK}\n```\nis next.",
        WEATHER,
    ),
    "a nearby call and text, and GLM-4's own call": (
        f" get_time\n{{}}\nThen:\nget_weather\n{PARIS}",
        " get_time\n{}\nThen:\n",
        WEATHER,
    ),
}

SAMPLES = (
    {name: (reply, "", calls) for name, (reply, calls) in CALLS.items()}
    | {name: (reply, reply, []) for name, reply in TEXTS.items()}
    | MIXED
)


def parser_of(names=NAMES, reasoning=None, call_start=MARK):
    syntaxes = (JsonCallSyntax(names, call_start),) if names else ()
    return ReplyParser(syntaxes, call_start, reasoning, nearby=partial(NearbyCalls, names, call_start))


def parse(chunks, parser=None, *, cut_off=False):
    parser = parser or parser_of()
    events = [event for chunk in chunks for event, _ in parser.feed(chunk)]
    events += [event for event, _ in parser.finish(cut_off=cut_off)]
    text = "".join(event.text for event in events if isinstance(event, Text))
    calls = [event for event in events if isinstance(event, ToolCall)]
    for call in calls:
        deltas = [event for event in events if isinstance(event, ToolCallDelta) and event.id == call.id]
        assert "".join(delta.arguments for delta in deltas) == call.arguments
    assert len({call.id for call in calls}) == len(calls)
    return text, [(call.name, call.arguments) for call in calls]


def split(reply, seed):
    chance = random.Random(seed)
    cuts = sorted(chance.randint(0, len(reply)) for _ in range(chance.randint(1, 8)))
    return [reply[start:end] for start, end in pairwise([0, *cuts, len(reply)])]


@pytest.mark.parametrize(("reply", "text", "calls"), SAMPLES.values(), ids=SAMPLES.keys())
def test_a_sample_is_the_same_in_every_split(reply, text, calls):
    assert parse([reply]) == (text, calls)
    assert parse(reply) == (text, calls)
    for cut in range(len(reply) + 1):
        assert parse([reply[:cut], reply[cut:]]) == (text, calls)
    for seed in range(50):
        assert parse(split(reply, seed)) == (text, calls)


@pytest.mark.parametrize(("reply", "calls"), CALLS.values(), ids=CALLS.keys())
def test_after_reasoning(reply, calls):
    marks = ReasoningMarks("<think>", "</think>", prompted=True)
    for end in ("", "\n", "\n\n"):
        thought = f"\nLet me see.</think>{end}"
        assert parse(thought + reply, parser_of(reasoning=marks)) == ("", calls)


def test_a_call_in_the_reasoning_is_reasoning():
    parser = parser_of(reasoning=ReasoningMarks("<think>", "</think>", prompted=True))
    events = [event for event, _ in parser.feed(f"```json\n{OBJECT}\n```</think>\nNo.")]
    assert not [event for event in events if isinstance(event, ToolCall)]
    assert "".join(event.text for event in events if isinstance(event, Reasoning)) == f"```json\n{OBJECT}\n```"


@pytest.mark.parametrize("reply", [OBJECT, f"\n```json\n{OBJECT}\n```", f"get_weather\r\n{PARIS}"])
def test_a_reply_that_is_cut_off_is_not_known_to_be_nothing_else(reply):
    assert parse([reply], cut_off=True) == (reply.removeprefix("\n"), [])


def test_without_tools_or_without_a_recognizer_all_is_text():
    assert parse([OBJECT], ReplyParser((), MARK)) == (OBJECT, [])
    assert parse([OBJECT], ReplyParser((JsonCallSyntax(NAMES, MARK),), MARK)) == (OBJECT, [])


# The shortest beginning of a reply after which it streams again.
DECIDED = {
    "a word": ("H", "Hello"),
    "another language": ("```p", "```python\nx = 1\n```"),
    "a word in a fence": ("```json\nx", "```json\nx\n```"),
    "another key": ('```json\n{"c', '```json\n{"city": "Paris"}\n```'),
    "a key that begins like name": ('{"names', '{"names": []}'),
    "another name": ('{"name": "get_n', '{"name": "get_news", "arguments": {}}'),
    "a person's name": ('{"name": "A', '{"name": "Alice", "age": 3}'),
    "a third key": ('{"name": "get_time", "d', '{"name": "get_time", "description": "The time"}'),
    "a blank list": ("[ 1", "[ 1, 2]"),
    "a list of texts": ('["', '["a"]'),
    "an empty object": ("{}", "{} is empty"),
    "a name in a sentence": ("get_weather i", "get_weather is a tool"),
    "a sentence behind a call": ("get_time\r\n{}\nT", "get_time\r\n{}\nThat is all"),
    "a sentence behind a fence": (f"```json\n{CLOCK}\n```\nT", f"```json\n{CLOCK}\n```\nThat is all"),
    "a line break in a string": ('get_time {"a": "b\n', 'get_time {"a": "b\nz'),
    "broken arguments": ("get_time\r\n{a: 1} ", "get_time\r\n{a: 1} and more"),
}


@pytest.mark.parametrize(("beginning", "reply"), DECIDED.values(), ids=DECIDED.keys())
def test_text_streams_again_as_soon_as_it_is_decided(beginning, reply):
    assert reply.startswith(beginning)
    parser, streamed = parser_of(), ""
    for place, char in enumerate(reply):
        streamed += "".join(event.text for event, _ in parser.feed(char))
        assert streamed == ("" if place < len(beginning) - 1 else reply[: place + 1])


def test_the_text_that_is_held_back_is_bounded():
    parser, reply = parser_of(), '{"name": "get_time", "arguments": {"a": "' + "x" * 40_000
    streamed, fed = "", 0
    while not streamed:
        streamed += "".join(event.text for event, _ in parser.feed(reply[fed : fed + 100]))
        fed += 100
    assert streamed == reply[:fed]
    assert fed <= 33_000


def test_held_text_knows_how_much_was_fed_beyond_it():
    """Logprobs are assigned by it."""
    parser, reply = parser_of(), "```json\nHello\nyou"
    for place, char in enumerate(reply, start=1):
        for event, beyond in parser.feed(char):
            assert reply[: place - beyond].endswith(event.text)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if "json" in family.call_syntaxes])
def test_every_family_with_json_calls_reads_them(name):
    family = FAMILIES[name]
    tools = [{"name": name, "parameters": {"type": "object", "properties": {}}} for name in NAMES]
    name = (family.own_tools or NAMES)[0]
    parser = ReplyParser(create_syntaxes(family, tools), family.call_start, nearby=create_nearby(family, tools))
    assert parse([f'{{"name": "{name}", "arguments": {{}}}}'], parser) == ("", [(name, "{}")])


def test_a_built_in_tool_is_called_in_its_own_shape_only():
    family = FAMILIES["glm4_2024"]
    python = {"name": "python", "type": "python", "parameters": {"properties": {"code": {"type": "string"}}}}
    assert create_nearby(family, [python]) is None
    for reply in ('{"name": "python", "arguments": {"code": "1"}}', 'python {"code": "1"}', "```python\n1\n```"):
        parser = ReplyParser((TextCallSyntax({"python": "code"}, MARK),), MARK, nearby=create_nearby(family, [python]))
        assert parse([reply], parser) == (reply, [])


# What a model writes on its way to or past a call, in any order.
PIECES = (
    *NAMES, "get_", "\n", "\r\n", " ", "\t", "```", "```json", "json", "{", "}", "[", "]", ",", ":", '"', "\\",
    '"name"', '"arguments"', '"parameters"', "{}", PARIS, OBJECT, CLOCK, MARK, "<|", "<tool_call>", "</tool_call>",
    "Hello", "~~~", "`", "是",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.integers(0, 2**32))
def test_any_text_is_the_same_in_any_split(pieces, seed):
    reply = "".join(pieces)
    whole = parse([reply])
    assert parse(reply) == whole
    assert parse(split(reply, seed)) == whole


@given(st.sampled_from(sorted(SAMPLES)), st.sampled_from(PIECES), st.data())
def test_a_sample_that_is_damaged_is_the_same_in_any_split(name, piece, data):
    reply = SAMPLES[name][0]
    start = data.draw(st.integers(0, len(reply)))
    end = data.draw(st.integers(start, min(len(reply), start + 4)))
    damaged = reply[:start] + piece + reply[end:]
    assert parse(damaged) == parse([damaged]) == parse([damaged[:start], damaged[start:end], damaged[end:]])


@given(st.lists(st.sampled_from(PIECES), max_size=6), st.sampled_from(sorted(CALLS)))
def test_a_call_with_a_word_before_it_on_its_line_is_text(pieces, name):
    reply = "A" + CALLS[name][0].lstrip("\n")
    first, newline, _ = reply.partition("\n")
    assert parse([first + newline]) == (first + newline, [])


TOOLS = [
    {
        "name": "get_weather",
        "description": "Weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
    {"name": "get_time", "description": "The time", "parameters": {"type": "object", "properties": {}}},
]
ASK = [Message("user", "How is the weather in Paris?")]
STRICT = Constraint.for_tools(TOOLS, strict=True)


def reply_of(bare_folder, replies, constraint=None, **settings):
    model = Model(bare_folder, backend=Echo(replies))
    said = Reply.from_events(model.reply(ASK, TOOLS, constraint=constraint, **settings))
    return said, model.backend.requests


def continued(requests, number):
    """The reply that a request continues."""
    return "".join(requests[number].prompt).removeprefix("".join(requests[0].prompt))


@pytest.mark.parametrize("reply", [f"get_weather\r\n{PARIS}", f"```json\n{OBJECT}\n```", OBJECT])
def test_without_strict_the_arguments_are_taken_as_they_are(bare_folder, reply):
    said, requests = reply_of(bare_folder, [reply])
    assert (said.text, [(call.name, call.arguments) for call in said.tool_calls]) == ("", WEATHER)
    assert len(requests) == 1


@pytest.mark.parametrize("before", ["", "\n"])
@pytest.mark.parametrize("reply", [f"get_weather\r\n{PARIS}", f"```json\n{OBJECT}\n```", OBJECT])
def test_with_strict_the_call_is_written_again_in_glm4s_spelling_under_its_grammar(bare_folder, before, reply):
    """No grammar can constrain such a call from its beginning."""
    said, requests = reply_of(bare_folder, [before + reply, '{"city": "Rome"}', ""], STRICT)
    assert (said.text, [(call.name, call.arguments) for call in said.tool_calls]) == (
        "",
        [("get_weather", '{"city": "Rome"}')],
    )
    assert [type(request.grammar) for request in requests] == [type(None), JsonSchema, type(None)]
    assert [continued(requests, number) for number in (1, 2)] == ["get_weather\n", 'get_weather\n{"city": "Rome"}']


def test_with_strict_each_further_call_is_written_again(bare_folder):
    replies = [f"get_weather\n{PARIS}", PARIS, f"\n```json\n{CLOCK}\n```", "{}", "\nDone."]
    said, requests = reply_of(bare_folder, replies, STRICT)
    assert [(call.name, call.arguments) for call in said.tool_calls] == BOTH
    assert said.text == "Done."
    assert continued(requests, 3) == f"get_weather\n{PARIS}\nget_time\n"


def test_with_strict_all_calls_of_a_reply_are_written_again(bare_folder):
    replies = [f"```json\n[{OBJECT}, {CLOCK}]\n```", PARIS, "get_time\n", "{ }", "\nDone."]
    said, requests = reply_of(bare_folder, replies, STRICT)
    assert [(call.name, call.arguments) for call in said.tool_calls] == [*WEATHER, ("get_time", "{ }")]
    assert said.text == "Done."
    assert [request.grammar for request in requests] == [
        None,
        STRICT.arguments["get_weather"],
        Choice(("get_time\n",)),
        STRICT.arguments["get_time"],
        None,
    ]
    assert continued(requests, 3) == f"get_weather\n{PARIS}\nget_time\n"


class BeginsScripted:
    """A real engine whose first reply is a script."""

    def __init__(self, backend, script):
        self._backend, self._script, self.requests = backend, script, []

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def generate(self, request):
        self.requests.append(request)
        if len(self.requests) > 1:
            yield from self._backend.generate(request)
            return
        ids = self.encode((self._script,))
        yield Delta(self._script, len(ids), ids=tuple(ids))
        yield Finish("stop", Usage(1, len(ids), 0.0, 0.0))


def test_on_the_engine_a_call_that_is_written_again_obeys_its_schema(demo_folder):
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    }
    weather = TOOLS[0] | {"parameters": schema}
    with Model(demo_folder) as loaded:
        backend = BeginsScripted(loaded.backend, f"\n```json\n[{OBJECT}, {CLOCK}]\n```")
        model = Model(demo_folder, backend=backend)
        constraint = Constraint.for_tools([weather, TOOLS[1]], strict=True)
        said = Reply.from_events(model.reply(ASK, [weather, TOOLS[1]], constraint=constraint, max_tokens=300))
    called = [(call.name, json.loads(call.arguments)) for call in said.tool_calls[:2]]
    assert called[0][0] == "get_weather"
    assert called[0][1]["city"] in ("Rome", "Oslo")
    assert type(called[0][1]["days"]) is int
    assert called[1][0] == "get_time"
    assert continued(backend.requests, 1) == continued(backend.requests, 2) == "get_weather\n"
    generated = Vocabulary.read(demo_folder.path / "tokenizer.json").decoder().feed(backend.requests[2].generated)
    assert generated.startswith(f"{said.tool_calls[0].arguments}\n")  # and nothing of what was dropped


def test_with_one_call_the_first_is_written_again(bare_folder):
    said, requests = reply_of(bare_folder, [f"{OBJECT}\n{CLOCK}", PARIS], replace(STRICT, one_call=True))
    assert [(call.name, call.arguments) for call in said.tool_calls] == WEATHER
    assert len(requests) == 2
    said, requests = reply_of(bare_folder, [f"{OBJECT}\n{CLOCK}"], Constraint(one_call=True))
    assert [(call.name, call.arguments) for call in said.tool_calls] == WEATHER


@pytest.mark.parametrize("strict", [True, False])
def test_after_a_required_call_a_nearby_one_is_a_call_and_other_text_ends_the_reply(bare_folder, strict):
    constraint = Constraint.for_tools(TOOLS, "required", strict=strict)
    replies = ["get_weather\n", PARIS, f"\n```json\n{CLOCK}\n```", "{}", f"```json\n{OBJECT}\n```\nThat is it."]
    said, requests = reply_of(bare_folder, replies, constraint)
    assert (said.text, [(call.name, call.arguments) for call in said.tool_calls]) == ("", BOTH)
    assert len(requests) == 5


def test_with_strict_an_explanation_stays_text(bare_folder):
    reply = f"```json\n{OBJECT}\n```\nThis is how it is called."
    said, requests = reply_of(bare_folder, [reply], STRICT)
    assert (said.text, said.tool_calls, len(requests)) == (reply, (), 1)


def test_what_was_written_before_a_call_is_written_again_counts_as_tokens(bare_folder):
    said, _ = reply_of(bare_folder, [OBJECT, PARIS, ""], STRICT)
    assert said.usage.completion_tokens == len(OBJECT) + len(PARIS)
    said, requests = reply_of(bare_folder, [OBJECT, PARIS], STRICT, sampling=Sampling(max_new_tokens=len(OBJECT)))
    assert (said.finish_reason, len(requests)) == ("length", 1)


ANSWERS = {
    "an object": JsonObject(),
    "a schema": JsonSchema.from_schema({"type": "object"}),
    "a choice": Choice((OBJECT,)),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_under_a_grammar_is_never_a_call(bare_folder, answer):
    said, _ = reply_of(bare_folder, [OBJECT], answer=answer)
    assert (said.text, said.tool_calls) == (OBJECT, ())


def test_a_choice_that_looks_like_glm4s_own_call_is_an_answer(bare_folder):
    said, _ = reply_of(bare_folder, [f"get_weather\n{PARIS}"], answer=Choice((f"get_weather\n{PARIS}",)))
    assert (said.text, said.tool_calls) == (f"get_weather\n{PARIS}", ())


def test_an_answer_beside_tools_that_may_be_called_is_never_a_call(bare_folder):
    constraint = Constraint(answer=JsonObject(), may_call=("get_weather", "get_time"))
    said, _ = reply_of(bare_folder, ["\n", OBJECT], constraint)
    assert (said.text, said.tool_calls) == (OBJECT, ())
