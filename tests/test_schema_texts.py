"""The order in which benchmarks write the instances of schemas."""

import pytest

from benchmarks.schema_texts import SchemaOrder, dump, equal
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.matcher import Matcher

X, Y, Z = {"properties": {"x": {}}}, {"properties": {"y": {}}}, {"properties": {"z": {}}}
# Schema, instance, and the order of its keys.
ORDERS = {
    "properties": ({"properties": {"y": {}, "x": {}}}, {"x": 1, "y": 2}, "yx"),
    "required ones after them": ({**X, "required": ["z"]}, {"a": 0, "z": 1, "x": 2}, "xza"),
    "$ref": ({"$ref": "#/$defs/d", **Y, "$defs": {"d": X}}, {"x": 1, "y": 2}, "yx"),
    "a circle of $ref": ({"$ref": "#", **Y}, {"x": 1, "y": 2}, "yx"),
    "allOf": ({"allOf": [Z, X]}, {"x": 1, "z": 2}, "zx"),
    "the branch that is valid": ({"anyOf": [{**Z, "required": ["z"]}, Y, X]}, {"x": 1, "y": 2}, "yx"),
    "then": ({"if": Z, "then": Y, "else": X, "properties": {"z": {}}}, {"x": 1, "y": 2, "z": 3}, "zyx"),
    "dependent ones": ({**Z, "dependentRequired": {"y": ["x"]}}, {"x": 1, "y": 2, "z": 3}, "zyx"),
    "a constant as it is": ({**X, "enum": [{"y": 1, "x": 2}]}, {"x": 2, "y": 1}, "yx"),
}


@pytest.mark.parametrize(("schema", "instance", "order"), ORDERS.values(), ids=ORDERS.keys())
def test_keys_come_in_the_order_of_the_schema(schema, instance, order):
    arranged = SchemaOrder(schema).arrange(instance)
    assert arranged == instance
    assert "".join(arranged) == order


@pytest.mark.parametrize("name", [name for name in ORDERS if name != "a circle of $ref"])
def test_a_grammar_writes_them_in_that_order(name):
    schema, instance, _ = ORDERS[name]
    for text in SchemaOrder(schema).texts(instance):
        matcher = Matcher(compile_schema(schema))
        assert matcher.feed(text) == len(text)
        assert matcher.complete


def test_what_is_inside_is_arranged_too():
    point = {"properties": {"y": {}, "x": {}}}
    schema = {"properties": {"a": {"items": point}}, "patternProperties": {"^b": point}, "additionalProperties": point}
    instance = {"c": {"x": 1, "y": 1}, "b": {"x": 2, "y": 2}, "a": [{"x": 3, "y": 3}]}
    written = '{"a":[{"y":3,"x":3}],"c":{"y":1,"x":1},"b":{"y":2,"x":2}}'
    assert SchemaOrder(schema).texts(instance)[1] == written


def test_texts_have_no_lone_surrogates():
    assert dump(["\ud800é"])[0] == '["\\ud800\\u00e9"]'
    assert dump(["é", 1])[0] == '["é", 1]'


def test_equal_values_are_those_of_json():
    assert equal([1, {"a": 1.0}], [1.0, {"a": 1}])
    assert not equal(1, True)
    assert not equal([0], [False])
