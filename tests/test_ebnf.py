"""A tree as EBNF: what is printed is read again, without its look-aheads, and held against the tree."""

import json
import re

import pytest

from runtime.errors import RequestError
from runtime.grammar.gbnf.compiler import compile_ebnf
from runtime.grammar.grammar import Choice, Ebnf, JsonObject, JsonSchema, Regex, to_tree
from runtime.grammar.matcher import Matcher
from runtime.grammar.printers.ebnf import to_ebnf


def tree_of(schema):
    return to_tree(JsonSchema.from_schema(schema))


def accepts(tree, text):
    matcher = Matcher(tree)
    return matcher.feed(text) == len(text) and matcher.complete


def read_again(text):
    return compile_ebnf(re.sub(r" \(= \[(\\.|[^]\\])*\]\)", "", text))


PRINTED = {
    "a constant": (Choice(('a"b\\',)), 'root ::= "a\\"b\\\\"\n'),
    "constants": (Choice(("a", "\n")), 'root ::= ("a" | "\\u000a")\n'),
    "one character": (Regex("[^a-c]"), "root ::= [^a-c]\n"),
    "a class": (Regex("[a-c é]"), "root ::= [ a-c\\u00e9]\n"),
    "a class of most characters": (Regex("[^é]"), "root ::= [\\u0000-\\u00e8\\u00ea-\\ud7ff\\ue000-\\U0010ffff]\n"),
    "a text": (Regex("ab?"), 'root ::= t0\nt0 ::= ([a] t1)\nt1 ::= ("" | [b])\n'),
    "an integer": (
        JsonSchema('{"type": "integer", "multipleOf": 10, "minimum": 5, "maximum": 15}'),
        "root ::= n0\nn0 ::= ([1] n1) (= [,}\\]])\nn1 ::= ([0]) (= [,}\\]])\n",
    ),
    "a string": (
        JsonSchema('{"type": "string", "pattern": "^[\\"a]$"}'),
        'root ::= "\\"" s0\ns0 ::= ([a] s1 | "\\\\" ["] s1) (= [,}\\]:])\ns1 ::= ("\\"") (= [,}\\]:])\n',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("grammar", "text"), PRINTED.values(), ids=PRINTED.keys())
def test_small_trees_as_they_are_printed(grammar, text):
    found = to_ebnf(to_tree(grammar))
    assert found.text.replace("\\u0022", '"') == text
    assert not found.wide


POINT = {
    "type": "object",
    "properties": {"x": {"type": "number"}, "y": {"type": "integer"}},
    "required": ["x"],
    "additionalProperties": False,
}
LIST = {"type": "array", "items": {"enum": [1, "a"]}, "minItems": 1, "maxItems": 3}
EXACT = {
    "an object": (POINT, ['{"x": 1.5}', '{"x":-1,"y": 2}'], ['{"y": 2}', '{"x": 1.5.5}']),
    "a list": (LIST, ['[1,"a",1]'], ["[]", "[1,1,1,1]"]),
    "a pattern": ({"type": "string", "pattern": "^[a-z]{2}/?$"}, ['"ab"', '"ab\\/"', '"ab/"'], ['"a"', '"abc"', '"ab']),
    "any text": ({"type": "string"}, ['""', '"\\u00e9\\"x"'], ['"\\ud800"', '"\n"', '"\\x"', '"']),
    "a recursive one": (
        {"$ref": "#/$defs/T", "$defs": {"T": {"type": "array", "items": {"$ref": "#/$defs/T"}}}},
        ["[[],[[]]]"],
        ["[", "[,]"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), EXACT.values(), ids=EXACT.keys())
def test_what_is_cheap_is_exact(schema, good, bad):
    tree = tree_of(schema)
    printed = to_ebnf(tree)
    again = read_again(printed.text)
    assert not printed.wide
    for text in good:
        assert accepts(tree, text)
        assert accepts(again, text)
    for text in bad:
        assert not accepts(tree, text)
        assert not accepts(again, text)


# A schema, a text that it takes, and one that only its EBNF takes.
WIDE = {
    "lengths": ({"type": "string", "minLength": 3, "maxLength": 9}, '"abc"', '"0123456789"'),
    "keys that come twice": ({"type": "object"}, '{"a": 1}', '{"a": 1, "a": 2}'),
    "items that come twice": ({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}, "[1, 2]", "[1, 1]"),
    "counts of wide classes": ({"type": "string", "pattern": "^[^x]{9,90}$"}, '"abcdefghij"', f'"{"a" * 99}"'),
    "complements": ({"type": "string", "not": {"pattern": "^[a-z]{3}(ab|.d)*$"}}, '"ab"', '"abcab"'),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "beyond"), WIDE.values(), ids=WIDE.keys())
def test_what_is_dear_is_written_wider(schema, good, beyond):
    tree = tree_of(schema)
    printed = to_ebnf(tree)
    again = read_again(printed.text)
    assert printed.wide
    assert printed.seconds < 0.3
    assert accepts(tree, good)
    assert accepts(again, good)
    assert not accepts(tree, beyond)
    assert accepts(again, beyond)


# A schema, a text that it takes, and the character that it refuses next.
CUTS = {
    "a text that is too long": ({"type": "string", "maxLength": 4}, '"abcd', "e"),
    "a text that is too short": ({"type": "string", "minLength": 4}, '"abc', '"'),
    "a key that came before": ({"type": "object"}, '{"ab": 1, "ab', '"'),
    "a key that is declared": (
        {"type": "object", "properties": {"ab": {"type": "null"}}, "propertyNames": {"maxLength": 2}},
        '{"ab": ',
        "1",
    ),
    "a value that came before": (
        {"type": "array", "items": {"enum": ["ab", "ac", "b"]}, "uniqueItems": True},
        '["ab", "a',
        "b",
    ),
    "a number that came before": ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "[1, 1", "]"),
    "a comma when no value is left": ({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}, "[1, 2", ","),
    "a complement": ({"type": "string", "not": {"pattern": "^[a-z]{3}(ab|.d)*$"}}, '"abcab', '"'),
    "an end that comes too early": ({"type": "array", "items": {"type": "null"}, "minItems": 99}, "[null", "]"),
    "a text that may be escaped": ({"type": "string", "maxLength": 3, "pattern": '^["a]*$'}, '"aa\\"', "\\"),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "text", "refused"), CUTS.values(), ids=CUTS.keys())
def test_after_a_cut_the_refused_character_is_not_allowed(schema, text, refused):
    matcher = Matcher(tree_of(schema))
    assert matcher.feed(text) == len(text)
    assert matcher.feed(refused) == 0
    rest = read_again(to_ebnf(matcher.rest(), cut=True).text)
    assert Matcher(rest).feed(refused) == 0
    allowed = [character for character in map(chr, range(32, 127)) if Matcher(rest).feed(character)]
    exact = [character for character in map(chr, range(32, 127)) if Matcher(matcher.rest()).feed(character)]
    assert allowed == exact


def test_an_exact_grammar_is_not_widened():
    tree = tree_of({"type": "string", "pattern": "^[^x]{20,90}$"})
    printed = to_ebnf(tree, exact=True)
    assert not printed.wide
    assert printed.seconds > 1
    assert not accepts(read_again(printed.text), json.dumps("a" * 99))


@pytest.mark.parametrize("grammar", [Ebnf('root ::= "(" ' + "[^)]" * 40 + ' root? ")"'), Regex("(a.{9}){9}[^é]")])
def test_a_text_that_cannot_be_wider_is_refused_if_it_is_dear(grammar):
    with pytest.raises(RequestError, match="too long to compile") as caught:
        to_ebnf(to_tree(grammar))
    assert caught.value.hint


def test_many_strings_together_are_kept_cheap():
    patterns = {f"p{n}": {"type": "string", "pattern": f"^[^{chr(97 + n)}]{{1,3}}$"} for n in range(20)}
    printed = to_ebnf(tree_of({"type": "object", "properties": patterns, "additionalProperties": False}))
    assert printed.wide
    assert printed.seconds < 0.9


def test_characters_are_written_as_the_engine_reads_them():
    printed = to_ebnf(to_tree(Choice(("\x7f\u200b\U000e0001é",)))).text
    assert printed == 'root ::= "\\u007f\\u200b\\U000e0001é"\n'
    assert accepts(read_again(printed), "\x7f\u200b\U000e0001é")


def test_any_json_object_costs_little():
    printed = to_ebnf(to_tree(JsonObject()))
    assert printed.seconds < 0.1
    assert accepts(read_again(printed.text), '{"a": [1.5e3, {"b": "\\n"}, true]}')
