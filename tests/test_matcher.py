"""The matcher reads a text character by character, refuses at once, and knows what may follow."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.grammar.grammar import Choice, Ebnf, JsonObject, JsonSchema, Regex, to_tree
from runtime.grammar.matcher import Matcher
from runtime.grammar.nodes import Escape, Literal, Quoted, Raw
from runtime.grammar.regular.automaton import automaton

ARRAY = {"type": "array", "items": {"enum": [1, 10, "a", None]}, "uniqueItems": True, "minItems": 2}
NAME = {"type": "string", "minLength": 2, "maxLength": 5}
OBJECT = {
    "type": "object",
    "properties": {"name": NAME, "size": {"type": "number", "minimum": 0}, "list": ARRAY},
    "required": ["name"],
    "additionalProperties": {"type": ["boolean", "null"]},
}
TREE = {"$defs": {"T": {"type": "array", "items": {"$ref": "#/$defs/T"}}}, "$ref": "#/$defs/T"}
GRAMMARS = {
    "an object": (
        JsonSchema.from_schema(OBJECT),
        ['{"name": "é\\n\\u0041", "size": 1.5, "list": [10, "a"], "x": null}'],
    ),
    "a recursive schema": (JsonSchema.from_schema(TREE), ["[[], [[]]]", "[]"]),
    "a pattern": (JsonSchema.from_schema({"pattern": '^[a"\\\\]+$', "type": "string"}), ['"a\\"\\\\a"']),
    "any object": (JsonObject(), ['{"a": [1, {"b": "\\ud83d"}], "c\\"": -0.5e1}', "{}"]),
    "a regular expression": (Regex("(ab|a)(bc|c)?x{2,3}"), ["abxx", "abcxxx", "axx"]),
    "a choice": (Choice(("one", "once", "on")), ["on", "one", "once"]),
    "an EBNF": (Ebnf('root ::= "(" (root | [a-z]{1,3})* ")"'), ["(ab(c)(()))", "()"]),
}  # fmt: skip
CASES = [(grammar, text) for grammar, texts in GRAMMARS.values() for text in texts if "\\ud83d" not in text]


def accepts(tree, text):
    matcher = Matcher(tree)
    return matcher.feed(text) == len(text) and matcher.complete


@pytest.mark.parametrize(("grammar", "text"), CASES)
def test_a_text_in_any_pieces_is_taken_as_a_whole(grammar, text):
    tree = to_tree(grammar)
    pieces = Matcher(tree)
    for character in text:
        assert not pieces.ended
        assert pieces.feed(character) == 1
    assert pieces.complete
    assert accepts(tree, text)


@pytest.mark.parametrize(("grammar", "text"), CASES)
def test_the_rest_takes_what_remains_and_nothing_else(grammar, text):
    tree = to_tree(grammar)
    for position in range(len(text) + 1):
        matcher = Matcher(tree)
        assert matcher.feed(text[:position]) == position
        rest = matcher.rest()
        assert accepts(rest, text[position:])
        assert accepts(rest, "") == matcher.complete
        for end in ("}", "]", ")", "\x00", '"', "xx", text[position:] + "!", text[position + 1 :]):
            assert accepts(rest, end) == accepts(tree, text[:position] + end), (position, end)


@pytest.mark.parametrize(("grammar", "text"), CASES)
def test_it_stops_at_the_first_refused_character(grammar, text):
    tree = to_tree(grammar)
    for position in range(len(text)):
        matcher = Matcher(tree)
        assert matcher.feed(text[:position] + "\x00" + text) == position
        assert matcher.feed("\x00") == 0
        assert matcher.feed(text[position:]) == len(text) - position
        assert matcher.complete


ENDS = {
    "a complete text that may go on": (Regex("a+"), "a", True, False),
    "one that may not": (Regex("a{2}"), "aa", True, True),
    "an incomplete one": (Regex("a{2}"), "a", False, False),
    "nothing, which may be all": (Regex("a?"), "", True, False),
    "a closed object": (JsonObject(), "{}", True, True),
    "an integer": (JsonSchema.from_schema({"type": "integer"}), "12", True, False),
    "one of two": (Choice(("ab", "abc")), "ab", True, False),
}


@pytest.mark.parametrize(("grammar", "text", "complete", "ended"), ENDS.values(), ids=ENDS.keys())
def test_whether_the_text_may_end_or_must(grammar, text, complete, ended):
    matcher = Matcher(to_tree(grammar))
    assert matcher.feed(text) == len(text)
    assert (matcher.complete, matcher.ended) == (complete, ended)
    if ended:
        assert not any(matcher.feed(character) for character in ' a"}]\n0')


FORCED = {
    "a key": ({"type": "object", "properties": {"name": {"type": "null"}}, "required": ["name"]}, "{", '"name":'),
    "a constant": ({"const": "abc"}, "", '"abc"'),
    "an end": ({"enum": ["ab", "cb"]}, '"a', 'b"'),
    "a part of a word": ({"pattern": "^a-b[cd]$", "type": "string"}, '"', "a-b"),
    "no character that may be an escape": ({"pattern": '^a"$', "type": "string"}, '"a', ""),
    "not one of several": ({"type": "string"}, '"', ""),
    "not where the text may end": ({"type": "integer", "maximum": 9, "minimum": 1}, "1", ""),
}


@pytest.mark.parametrize(("schema", "text", "forced"), FORCED.values(), ids=FORCED.keys())
def test_the_text_with_which_everything_begins(schema, text, forced):
    matcher = Matcher(to_tree(JsonSchema.from_schema(schema)))
    matcher.feed(text)
    assert matcher.forced() == forced
    assert matcher.forced() == forced  # it is not read
    assert matcher.feed(forced) == len(forced)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.booleans())
def test_a_string_counts_its_characters_whichever_way_they_are_written(text, ascii_only):
    written = json.dumps(text, ensure_ascii=ascii_only)
    if ascii_only and any(character > "\uffff" for character in text):
        return  # a pair of surrogates is not written
    tree = to_tree(JsonSchema.from_schema({"type": "string", "minLength": 2, "maxLength": 5}))
    assert accepts(tree, written) == (2 <= len(text) <= 5)


STRINGS = {
    "an escape of the language": ({"pattern": "^\\n$"}, ['"\\n"'], ['"n"', '"\n"', '"\\t"']),
    "a quote and a backslash": ({"const": '"\\'}, ['"\\"\\\\"'], ['"""', '"\\"\\"']),
    "a slash": ({"pattern": "^/$"}, ['"/"', '"\\/"'], ['"\\"']),
    "any escape": ({}, ['"\\u00e9\\/\\b"', '"\\uD7ff"'], ['"\\u00g0"', '"\\ud800"', '"\\x41"', '"\x01"', '"\\u12"']),
}


@pytest.mark.parametrize(("schema", "good", "bad"), STRINGS.values(), ids=STRINGS.keys())
def test_escapes(schema, good, bad):
    tree = to_tree(JsonSchema.from_schema({"type": "string", **schema}))
    assert all(accepts(tree, text) for text in good)
    assert not any(accepts(tree, text) for text in bad)


def next_characters(matcher):
    """Return some characters that may come next, by the tops of the matcher's stacks."""
    found = set()
    for stack in filter(None, matcher._stacks):
        match stack[0]:
            case Literal(text=text):
                found.add(text[0])
            case Escape():
                found |= set('"\\/bfnrtu')
            case Quoted() as node:
                found |= {'"', "\\"}
                found |= {chr(ranges[-1][1]) for ranges, _ in automaton(node.language).moves}
                found |= {chr(ranges[0][0]) for ranges, _ in automaton(node.language).moves}
            case Raw() as node:
                found |= {chr(ranges[0][0]) for ranges, _ in automaton(node.language).moves}
    return sorted(found)


@pytest.mark.parametrize(("grammar", "_"), GRAMMARS.values(), ids=GRAMMARS.keys())
def test_whatever_it_takes_can_be_completed(grammar, _):
    tree, chance = to_tree(grammar), random.Random(5)
    for _ in range(8):
        matcher, text = Matcher(tree), ""
        for step in range(400):
            if matcher.complete and (matcher.ended or step > 60):
                break
            options = next_characters(matcher)
            ending = [option for option in options if option in '}])"'] if step > 60 else []
            chance.shuffle(options)
            taken = next(option for option in [*ending, *options] if matcher.feed(option))
            text += taken
        assert matcher.complete, text
        if isinstance(grammar, JsonSchema | JsonObject):
            json.loads(text)


def test_a_deep_text_takes_linear_time_and_a_long_one_little_memory():
    tree, depth = to_tree(JsonSchema.from_schema(TREE)), 6000
    matcher = Matcher(tree)
    assert matcher.feed("[" * depth) == depth
    assert accepts(matcher.rest(), "]" * depth)
    assert matcher.feed("]" * depth) == depth
    assert matcher.ended
    matcher = Matcher(to_tree(JsonObject()))
    matcher.feed('{"a": [')
    for _ in range(2000):
        assert matcher.feed('"some text", ') == 13
    assert len(matcher._cells) < 3000
