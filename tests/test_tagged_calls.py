"""GLM-4.6V's calls in tags: read from any chunks, and constrained by a grammar of the same arguments."""

import json
from itertools import combinations
from typing import Any

import pytest

from runtime.errors import RequestError
from runtime.events import Event, Reasoning, Text, ToolCall, ToolCallDelta
from runtime.grammar.grammar import JsonObject, JsonSchema, Regex, TaggedArguments, to_tree
from runtime.grammar.matcher import Matcher
from runtime.grammar.printers.ebnf import to_ebnf
from runtime.prompt.families import ReasoningMarks
from runtime.reply.calls.tagged_call import TaggedCallSyntax
from runtime.reply.reply_parser import ReplyParser

MARK = "<tool_call>"
STRING = {"type": "string"}
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": STRING,
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "note": {"type": ["string", "null"]},
        "tags": {"type": "array", "items": STRING},
        "any": {},
        "unit": {"enum": ["C", "F"]},
        "exact": {"type": "boolean"},
    },
    "required": ["city"],
}
TOOLS = {"get_weather": WEATHER, "now": {"type": "object", "properties": {}}, "free": {"type": "object"}}


def call(name: str, **arguments: str) -> str:
    members = "".join(f"<arg_key>{k}</arg_key>\n<arg_value>{v}</arg_value>\n" for k, v in arguments.items())
    return f"<tool_call>{name}\n{members}</tool_call>"


Expected = tuple[str, list[tuple[str, dict[str, Any]]]]
SAMPLES: dict[str, tuple[str, Expected]] = {
    "an answer": ("\nHello.\nBye.", ("Hello.\nBye.", [])),
    "a call": (call("get_weather", city="Paris"), ("", [("get_weather", {"city": "Paris"})])),
    "a call on a line of its own": ("\n" + call("now"), ("", [("now", {})])),
    "text before a call": ("\nLet me see.\n" + call("now") + "\n", ("Let me see.\n", [("now", {})])),
    "a call within a line": ("I look." + call("now"), ("I look.", [("now", {})])),
    "text after a call": (call("now") + "\nDone.", ("Done.", [("now", {})])),
    "two calls": (
        call("now") + "\n" + call("get_weather", city="Rome", days="3"),
        ("", [("now", {}), ("get_weather", {"city": "Rome", "days": 3})]),
    ),
    "two calls side by side": (call("now") + call("now"), ("", [("now", {}), ("now", {})])),
    "without newlines": (
        "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Oslo</arg_value></tool_call>",
        ("", [("get_weather", {"city": "Oslo"})]),
    ),
    "blanks around": (
        "<tool_call>\nget_weather \n\n <arg_key> city </arg_key>\n\n<arg_value>Oslo</arg_value> \n </tool_call>",
        ("", [("get_weather", {"city": "Oslo"})]),
    ),
    "a string as it is": (
        call("get_weather", city=' 5\n"</arg" \\ 北京\t</arg_valu>'),
        ("", [("get_weather", {"city": ' 5\n"</arg" \\ 北京\t</arg_valu>'})]),
    ),
    "types of the schema": (
        call("get_weather", city="12", note="null", tags='["a", "b"]', unit="F", exact="true"),
        ("", [("get_weather", {"city": "12", "note": None, "tags": ["a", "b"], "unit": "F", "exact": True})]),
    ),
    "a string that may be null": (call("get_weather", note="12"), ("", [("get_weather", {"note": "12"})])),
    "Python's constants": (call("get_weather", exact="True"), ("", [("get_weather", {"exact": True})])),
    "any type": (call("get_weather", any='{"a": 1}'), ("", [("get_weather", {"any": {"a": 1}})])),
    "any type, a text": (call("get_weather", any="a {1}"), ("", [("get_weather", {"any": "a {1}"})])),
    "what is no number": (call("get_weather", days="many"), ("", [("get_weather", {"days": "many"})])),
    "undeclared arguments": (call("free", a="1", b="x"), ("", [("free", {"a": 1, "b": "x"})])),
    "an empty string": (call("get_weather", city=""), ("", [("get_weather", {"city": ""})])),
    "a name that was not offered": (call("get_news"), (call("get_news"), [])),
    "a name and text": ("<tool_call>now\nplease", ("<tool_call>now\nplease", [])),
    "only a tag": ("a <tool_call> b", ("a <tool_call> b", [])),
    "part of a tag": ("a <tool_ca", ("a <tool_ca", [])),
    "a name without a tag": ("now\n</tool_call>", ("now\n</tool_call>", [])),
    "quoted": ("```\n" + call("now") + "\n```\n", ("```\n" + call("now") + "\n```\n", [])),
}


def parse(chunks: list[str], *, reasoning: ReasoningMarks | None = None, cut_off: bool = False) -> list[Event]:
    parser = ReplyParser((TaggedCallSyntax(TOOLS, MARK),), MARK, reasoning)
    found = [event for chunk in chunks for event, _ in parser.feed(chunk)]
    return found + [event for event, _ in parser.finish(cut_off=cut_off)]


def summary(events: list[Event]) -> Expected:
    deltas: dict[str, str] = {}
    calls = []
    for event in events:
        if isinstance(event, ToolCallDelta):
            deltas[event.id] = deltas.get(event.id, "") + event.arguments
        elif isinstance(event, ToolCall):
            assert event.complete
            assert deltas[event.id] == event.arguments
            calls.append((event.name, json.loads(event.arguments)))
    return "".join(event.text for event in events if isinstance(event, Text)), calls


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_split(sample: str) -> None:
    reply, expected = SAMPLES[sample]
    splits = [[reply], list(reply)]
    splits += [[reply[:cut], reply[cut:]] for cut in range(1, len(reply))]
    splits += [[reply[:i], reply[i:j], reply[j:]] for i, j in combinations(range(0, len(reply), 7), 2)]
    for chunks in splits:
        assert summary(parse(chunks)) == expected, chunks


def test_strings_stream() -> None:
    """A string is passed on as it comes, but for what may be its closing tag."""
    parser = ReplyParser((TaggedCallSyntax(TOOLS, MARK),), MARK)
    parser.feed("<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>")
    chunks = ["Fran", 'k"', "furt</arg", "_val", "ue>\n"]
    deltas = ["".join(e.arguments for e, _ in parser.feed(c) if isinstance(e, ToolCallDelta)) for c in chunks]
    assert deltas == ["Fran", 'k\\"', "furt", "", '"']


def test_reasoning() -> None:
    marks = ReasoningMarks("<think>", "</think>")
    reply = "\n<think>Is <tool_call>now\n</tool_call> right?</think>\n" + call("now")
    for cut in range(len(reply)):
        events = parse([reply[:cut], reply[cut:]], reasoning=marks)
        assert "".join(e.text for e in events if isinstance(e, Reasoning)) == "Is <tool_call>now\n</tool_call> right?"
        assert summary([e for e in events if not isinstance(e, Reasoning)]) == ("", [("now", {})])


@pytest.mark.parametrize(
    ("reply", "cut_off", "arguments", "complete"),
    [
        ("<arg_key>city</arg_key>\n<arg_value>Pa", True, '{"city": "Pa', False),
        ("<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n", True, '{"city": "Paris"', False),
        ("<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n", False, '{"city": "Paris"}', True),
        ("<arg_key>days</arg_key>\n<arg_value>1", True, '{"days": ', False),
        ("<arg_key>city</arg_key>\nParis", False, '{"city": ', False),
        ("<arg_key>ci", False, "{", False),
    ],
)
def test_calls_without_an_end(reply: str, cut_off: bool, arguments: str, complete: bool) -> None:
    *_, found = [e for e in parse([f"<tool_call>get_weather\n{reply}"], cut_off=cut_off) if isinstance(e, ToolCall)]
    assert (found.arguments, found.complete) == (arguments, complete)


def grammar(schema: dict[str, Any]) -> TaggedArguments:
    return TaggedArguments.of(JsonSchema.of_arguments(schema))


def accepts(schema: dict[str, Any], reply: str) -> bool:
    matcher = Matcher(to_tree(grammar(schema)))
    return matcher.feed(reply) == len(reply) and matcher.complete


@pytest.mark.parametrize(
    ("arguments", "valid"),
    [
        ({"city": "Paris"}, True),
        ({"city": '5 </a> </ar "'}, True),
        ({"city": "5 </arg_valu>"}, False),
        ({"city": "a", "days": "14"}, True),
        ({"city": "a", "days": "15"}, False),
        ({"city": "a", "days": " 1"}, False),
        ({"days": "1"}, False),
        ({"days": "1", "city": "a"}, False),
        ({"city": "a", "note": "null"}, True),
        ({"city": "a", "note": "nul"}, True),
        ({"city": "a", "tags": '["x", "</b>"]'}, True),
        ({"city": "a", "tags": "x"}, False),
        ({"city": "a", "any": "12"}, True),
        ({"city": "a", "any": "a12"}, True),
        ({"city": "a", "any": "1a"}, False),
        ({"city": "a", "unit": "F"}, True),
        ({"city": "a", "unit": '"F"'}, False),
        ({"city": "a", "exact": "True"}, False),
        ({"city": "a", "more": "x"}, False),
    ],
)
def test_grammar(arguments: dict[str, str], valid: bool) -> None:
    reply = call("f", **arguments).removeprefix("<tool_call>f\n")
    assert accepts(WEATHER, reply) == valid
    assert not accepts(WEATHER, reply + "\n")


def test_rests_of_wide_texts() -> None:
    """What follows a cut is written for the engine, wherever in a text of counted characters it is."""
    counted = grammar({"type": "object", "properties": {"a": STRING | {"maxLength": 30}}, "required": ["a"]})
    matcher = Matcher(to_tree(counted))
    assert to_ebnf(to_tree(counted)).wide
    for character in "<arg_key>a</arg_key>\n<arg_value>a < </a> </arg_value>\n</tool_call>":
        assert to_ebnf(matcher.rest(), cut=True).text
        assert matcher.feed(character) == 1
    assert matcher.complete


def test_grammars_of_other_schemas() -> None:
    nothing = {"type": "object", "properties": {}}
    assert accepts(nothing, "</tool_call>")
    assert not accepts(nothing, call("f", a="1").removeprefix("<tool_call>f\n"))
    numbers = {"type": "object", "additionalProperties": {"type": "number"}}
    assert accepts(numbers, call("f", a="1", b="2.5").removeprefix("<tool_call>f\n"))
    assert not accepts(numbers, call("f", a="x").removeprefix("<tool_call>f\n"))
    either = {"anyOf": [{"type": "object", "properties": {"a": STRING}, "required": ["a"]}, nothing]}
    assert accepts(either, call("f", a="1").removeprefix("<tool_call>f\n"))
    assert accepts(either, "</tool_call>")
    assert TaggedArguments.of(JsonObject()) == TaggedArguments()
    with pytest.raises(TypeError):
        TaggedArguments.of(Regex("a"))
    for schema in ({"minProperties": 2}, {"properties": {"<a>": {}}}, {"enum": [{}]}):
        with pytest.raises(RequestError, match="unsupported JSON schema"):
            to_tree(grammar({"type": "object"} | schema))
