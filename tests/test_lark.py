"""A tree in llguidance's syntax, which accepts what the matcher accepts."""

import json

import pytest

from runtime.grammar.grammar import Choice, Ebnf, JsonObject, JsonSchema, Regex, to_tree
from runtime.grammar.matcher import Matcher
from runtime.grammar.printers.lark import to_lark

llguidance = pytest.importorskip("llguidance")

POINT = {
    "type": "object",
    "properties": {"x": {"type": "number", "minimum": -1.5}, "name": {"type": "string", "maxLength": 3}},
    "required": ["x"],
    "additionalProperties": False,
}
LIST = {"type": "array", "items": {"enum": [1, "a", None]}, "minItems": 1, "maxItems": 3}
NESTED = {"$ref": "#/$defs/T", "$defs": {"T": {"type": "array", "items": {"$ref": "#/$defs/T"}}}}
CASES = {
    "an object": (
        JsonSchema.from_schema(POINT),
        ['{"x": -1.5, "name": "abc"}', '{"x":7}'],
        ['{"x": -2}', '{"x": 1, "name": "abcd"}', "{}"],
    ),
    "a list": (JsonSchema.from_schema(LIST), ['[1, "a",null]', "[1,1]"], ["[]", "[1,1,1,1]", "[2]"]),
    "a recursive schema": (JsonSchema.from_schema(NESTED), ["[[],[[]]]"], ["[", "[,]", "[]]"]),
    "a pattern": (
        JsonSchema.from_schema({"type": "string", "pattern": '^["a\\\\é]{2}$'}),
        ['"\\"a"', '"é\\\\"'],
        ['"a"', '"aaa"', '"""'],
    ),
    "a complement": (
        JsonSchema.from_schema({"type": "string", "not": {"enum": ["a", "bc"]}}),
        ['""', '"b"'],
        ['"a"', '"bc"'],
    ),
    "a format": (JsonSchema.from_schema({"type": "string", "format": "date"}), ['"2024-02-29"'], ['"2023-02-29"']),
    "any object": (
        JsonObject(),
        ["{}", '{"a": [1.5e3, {"b": "\\n"}, true]}'],
        ["[]", '{"a" 1}', '{"a": 01}', '{"\n": 1}'],
    ),
    "a regular expression": (Regex("(ab|a)(bc|c)?x{2,3}"), ["abxx", "abcxxx"], ["abx", "xx"]),
    "a choice": (Choice(("one", 'o"\\n', "\u200b")), ["one", 'o"\\n', "\u200b"], ["o", "onee"]),
    "an EBNF": (Ebnf('root ::= "(" (root | [a-z]{1,3})* ")"'), ["(ab(c)(()))", "()"], ["(", "(A)"]),
    "a count that is zero": (Ebnf('root ::= "a" root{0} "b"{0,2}'), ["a", "abb"], ["aa", "abbb"]),
}


def accepts(tree, text):
    """Return whether llguidance accepts the text, byte by byte, under the grammar of a tree."""
    tokens = [bytes([number]) for number in range(256)]
    vocabulary = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes([*tokens, b"<end>"])))
    matcher = llguidance.LLMatcher(vocabulary, llguidance.LLMatcher.grammar_from_lark(to_lark(tree)))
    assert not matcher.is_error(), matcher.get_error()
    return bool(matcher.consume_tokens(list(text.encode()))) and matcher.is_accepting()


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.eos_token_id = len(tokens) - 1
        self.bos_token_id = None
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(("grammar", "good", "bad"), CASES.values(), ids=CASES.keys())
def test_it_accepts_what_the_matcher_accepts(grammar, good, bad):
    tree = to_tree(grammar)
    for text in [*good, *bad]:
        matcher = Matcher(tree)
        assert (matcher.feed(text) == len(text) and matcher.complete) == (text in good), text
        assert accepts(tree, text) == (text in good), text


@pytest.mark.parametrize(("grammar", "good", "_"), CASES.values(), ids=CASES.keys())
def test_it_accepts_the_rest_of_a_text(grammar, good, _):
    for text in good:
        for position in range(len(text)):
            matcher = Matcher(to_tree(grammar))
            matcher.feed(text[:position])
            assert accepts(matcher.rest(), text[position:]), position


def test_a_long_string_is_one_terminal():
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 100_000}}, "required": ["a"]}
    tree = to_tree(JsonSchema.from_schema(schema))
    assert len(to_lark(tree)) < 5000
    assert accepts(tree, json.dumps({"a": "x" * 500}))
