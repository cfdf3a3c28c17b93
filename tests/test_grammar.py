import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import RequestError
from runtime.grammar.grammar import Choice, JsonSchema, Regex

OBJECT = {"type": "object", "properties": {"a": {"type": "string"}, "n": {"type": "integer"}}, "required": ["a"]}
POINT = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
MATCHES = {
    "an object": (OBJECT, ['{"a": "x"}', '{"a": "é\\n", "n": -3}', '{"a":"x"}'], ["{}", '{"n": 1}', '{  "a": "x"}']),
    "no properties": ({"type": "object", "properties": {}}, ["{}"], ['{"a": 1}']),
    "a choice": ({"enum": ["a", 1]}, ['"a"', "1"], ['"b"']),
    "a list": ({"type": "array", "items": {"type": "boolean"}, "maxItems": 2}, ["[]", "[true,false]"], ["[1]"]),
    "either": ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ['"x"', "null"], ["1"]),
    "a reference": (
        {"$ref": "#/$defs/P", "$defs": {"P": POINT}},
        ['{"x": 1.5}'],
        ["{}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), MATCHES.values(), ids=MATCHES.keys())
def test_schemas_become_patterns(schema, good, bad):
    pattern = re.compile(JsonSchema.from_schema(schema).pattern())
    assert all(pattern.fullmatch(text) for text in good)
    assert not any(pattern.fullmatch(text) for text in bad)


@given(st.fixed_dictionaries({"a": st.text()}, optional={"n": st.integers(-(10**17), 10**17)}))
def test_what_json_writes_is_allowed(value):
    text = json.dumps(dict(sorted(value.items())), ensure_ascii=False)  # in the schema's order
    assert re.fullmatch(JsonSchema.from_schema(OBJECT).pattern(), text) or re.search(r"\\u", text)


REFUSED = {
    "a bound": ({"type": "integer", "minimum": 1}, "'minimum'"),
    "a bound inside": ({"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 2}}}, "'multipleOf'"),
    "a negation": ({"type": "array", "items": {"not": {"type": "string"}}}, "'not'"),
    "a format": ({"type": "string", "format": "email"}, "'email'"),
    "recursion": (
        {"$ref": "#/$defs/T", "$defs": {"T": {"type": "object", "properties": {"t": {"$ref": "#/$defs/T"}}}}},
        "refers to itself",
    ),
    "a reference to nothing": ({"$ref": "#/$defs/T"}, "#/$defs/T"),
    "a reference outside": ({"$ref": "http://example.com"}, "outside itself"),
    "no schema": ({"type": "object", "properties": {"a": 1}}, "#/properties/a is 1"),
}


@pytest.mark.parametrize(("schema", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_held_is_refused_by_name(schema, words):
    with pytest.raises(RequestError) as caught:
        JsonSchema.from_schema(schema)
    assert words in str(caught.value)
    assert caught.value.hint


ANCHORS = {
    "a^b": False, "a$b": False, "(^a)": False, "^a|^b": False, "a$|b": False,
    "^a$": True, r"\^a\$b": True, "[$^]x[^$]": True, "[]$]": True, "[^]^]": True, r"x[\]$]y": True,
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "fine"), ANCHORS.items(), ids=ANCHORS.keys())
def test_anchors_stand_at_the_ends(pattern, fine):
    """Inside, xgrammar would ignore them, and say so on the user's stderr."""
    schema = {"type": "string", "pattern": pattern}
    if fine:
        assert Regex(pattern).pattern == pattern
        assert JsonSchema.from_schema(schema).pattern()
        return
    for make in (lambda: Regex(pattern), lambda: JsonSchema.from_schema(schema)):
        with pytest.raises(RequestError, match="inside a pattern") as caught:
            make()
        assert caught.value.hint


@pytest.mark.parametrize("make", [lambda: Regex("("), lambda: Choice(()), lambda: JsonSchema("{")])
def test_grammars_that_are_none_are_refused(make):
    with pytest.raises(RequestError):
        make()
