import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import RequestError
from runtime.grammar.grammar import Choice, Ebnf, JsonObject, JsonSchema, Regex, to_grammar, to_tree
from runtime.grammar.matcher import Matcher

OBJECT = {"type": "object", "properties": {"a": {"type": "string"}, "n": {"type": "integer"}}, "required": ["a"]}
POINT = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
MATCHES = {
    "an object": (OBJECT, ['{"a": "x"}', '{"a": "é\\n", "n": -3}', '{"a":"x"}'], ["{}", '{"n": 1}', '{  "a": "x"}']),
    "no properties": ({"type": "object", "additionalProperties": False}, ["{}"], ['{"a": 1}']),
    "a choice": ({"enum": ["a", 1]}, ['"a"', "1"], ['"b"']),
    "a list": ({"type": "array", "items": {"type": "boolean"}, "maxItems": 2}, ["[]", "[true,false]"], ["[1]"]),
    "either": ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ['"x"', "null"], ["1"]),
    "a reference": (
        {"$ref": "#/$defs/P", "$defs": {"P": POINT}},
        ['{"x": 1.5}', '{"x": 1e5, "y": []}'],
        ["{}"],
    ),
}  # fmt: skip


def matches(grammar, text):
    matcher = Matcher(to_tree(grammar))
    return matcher.feed(text) == len(text) and matcher.complete


@pytest.mark.parametrize(("schema", "good", "bad"), MATCHES.values(), ids=MATCHES.keys())
def test_schemas_become_trees(schema, good, bad):
    grammar = JsonSchema.from_schema(schema)
    assert all(matches(grammar, text) for text in good)
    assert not any(matches(grammar, text) for text in bad)


@given(st.fixed_dictionaries({"a": st.text()}, optional={"n": st.integers(-(10**17), 10**17)}))
def test_what_json_writes_is_allowed(value):
    assert matches(JsonSchema.from_schema(OBJECT), json.dumps(dict(sorted(value.items())), ensure_ascii=False))


REFUSED = {
    "a format": ({"type": "string", "format": "idn-email"}, "the format 'idn-email' at #"),
    "a property's format": (
        {"type": "object", "properties": {"a/b": {"format": "regex"}}},
        "the format 'regex' at #/properties/a~1b",
    ),
    "a circle": ({"$ref": "#/$defs/T", "$defs": {"T": {"$ref": "#/$defs/T"}}}, "leads back to itself"),
    "a reference outside": ({"$ref": "http://example.com"}, "to another document at #"),
    "nothing valid": ({"type": "integer", "minimum": 3, "maximum": 2}, "nothing is valid for it"),
    "a word boundary": ({"pattern": r"\bx"}, r"has a \b, which is not supported at #"),
    "items that are unique objects": (
        {"type": "array", "items": {"type": "object"}, "uniqueItems": True},
        "uniqueItems of objects or arrays at #",
    ),
}


@pytest.mark.parametrize(("schema", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_supported_is_rejected_by_name(schema, words):
    with pytest.raises(RequestError) as caught:
        to_tree(JsonSchema.from_schema(schema))
    assert words in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "make",
    [
        lambda: Regex("("),
        lambda: Regex(r"(a)\1"),
        lambda: Choice(()),
        lambda: JsonSchema("{"),
        lambda: JsonSchema.from_schema({"type": "object", "properties": {"a": 1}}),
        lambda: JsonSchema.from_schema({"$ref": "#/$defs/T"}),
    ],
)
def test_grammars_that_are_none_are_refused(make):
    with pytest.raises(RequestError) as caught:
        make()
    assert caught.value.hint


TEXTS = {
    "a regular expression": (Regex("[0-9]{2}|x?"), ["12", "x", ""], ["1", "xx"]),
    "a choice": (Choice(("ab", "abc")), ["ab", "abc"], ["a", "abcd"]),
    "an object": (JsonObject(), ["{}", '{"a": [1, {"b": null}]}'], ["[]", "{", '{"a":1,"a":2}', '{ "a":1}']),
}


@pytest.mark.parametrize(("grammar", "good", "bad"), TEXTS.values(), ids=TEXTS.keys())
def test_grammars_of_texts(grammar, good, bad):
    assert all(matches(grammar, text) for text in good)
    assert not any(matches(grammar, text) for text in bad)


ANSWERS = {
    "none": (None, None),
    "a grammar": (Choice(("a",)), Choice(("a",))),
    "texts": (["a", "b"], Choice(("a", "b"))),
    "a schema": (POINT, JsonSchema.from_schema(POINT)),
    "text": ({"type": "text"}, None),
    "json_object": ({"type": "json_object"}, JsonObject()),
    "json_object with a schema": ({"type": "json_object", "schema": POINT}, JsonSchema.from_schema(POINT)),
    "json_schema": (
        {"type": "json_schema", "json_schema": {"name": "a", "schema": POINT}},
        JsonSchema.from_schema(POINT),
    ),
    "json_schema of the responses": (
        {"type": "json_schema", "name": "a", "schema": POINT},
        JsonSchema.from_schema(POINT),
    ),
}


@pytest.mark.parametrize(("answer", "grammar"), ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_is_a_grammar_or_stands_for_one(answer, grammar):
    assert to_grammar(answer) == grammar


@pytest.mark.parametrize(
    "answer", [1, "a", {"type": "json_schema"}, {"type": "json_schema", "json_schema": {"name": "a"}}]
)
def test_what_stands_for_no_grammar_is_rejected(answer):
    with pytest.raises(RequestError) as caught:
        to_grammar(answer)
    assert caught.value.hint


@pytest.mark.parametrize(
    "grammar", [Regex("a"), Choice(("a",)), Ebnf('root ::= "a"'), JsonObject(), JsonSchema('{"type": "null"}', False)]
)
def test_grammars_cross_processes(grammar):
    to_tree(grammar)
    assert pickle.loads(pickle.dumps(grammar)) == grammar
