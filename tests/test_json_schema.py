"""What the grammar of a JSON schema matches, keyword by keyword, drafts 4 to 2020-12.

Each case: a schema, texts that match, texts that do not. `{}` and `[]` stand for a type, where only one is meant.
"""

import json
import re
from random import Random

import jsonschema
import pytest

from benchmarks.schema_sampler import sample, vary_instance, vary_schema
from benchmarks.schema_texts import SchemaOrder
from runtime.errors import RequestError
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.matcher import Matcher

OBJECT, ARRAY, STRING, INTEGER, NUMBER = ({"type": t} for t in ("object", "array", "string", "integer", "number"))
ANYTHING = ("null", "true", "-0.5e7", '"a"', "[1, {}]", '{"a": [], "b": null}')
A, AB = {"a": INTEGER}, {"a": INTEGER, "b": STRING}
CLOSED = {"type": "object", "additionalProperties": False}
NODE = {"type": "object", "properties": {"n": INTEGER, "next": {"$ref": "#/$defs/node"}}, "additionalProperties": False}

CASES = {
    "any": [
        (True, ANYTHING, ("", "nul", "a", "01", "1.", "[1,]", '{"a"}', "'a'")),
        ({}, ANYTHING, ("  1", "1 ", "[1,  2]", '{"a":1,"a":2}')),
        ({"title": "x", "default": 1, "x-a": {"type": 1}, "readOnly": True, "$comment": "c"}, ANYTHING, ("",)),
        ({"properties": {"a": {}}, **OBJECT}, ('{"a": null}', '{"a":[{"b": 1}],"c":2}'), ("null",)),
    ],
    "type": [
        ({"type": "null"}, ("null",), ("0", "false", '""')),
        ({"type": "boolean"}, ("true", "false"), ("0", "True")),
        (INTEGER, ("0", "-12"), ("1.5", "1.0", "01", "+1", "-", '"1"')),
        (NUMBER, ("0", "-1.50", "1e5", "1E-05", "12.5e+10"), (".5", "5.", "1e", "NaN", "Infinity")),
        ({"type": ["integer", "null", "array"]}, ("1", "null", "[true]"), ("1.5", "{}", "true")),
        ({"type": ["number", "integer"]}, ("1", "1.5"), ('"a"',)),
    ],
    "nullable": [  # of OpenAPI
        ({**STRING, "nullable": True}, ("null", '"a"'), ("1",)),
        ({**STRING, "nullable": False}, ('"a"',), ("null",)),
        ({"nullable": True, "enum": ["a"], **STRING}, ('"a"',), ("null",)),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", **STRING, "nullable": True}, ('"a"',), ("null",)),
    ],
    "properties": [
        ({**OBJECT, "properties": AB},
         ('{"a": 1, "b": "x"}', "{}", '{"b":"","c":1}'), ('{"a": "1"}', '{"b":"","a":1}')),
        ({"properties": A}, ('{"a": 1}', "[]", '"a"'), ('{"a": null}',)),
        ({**OBJECT, "properties": {"a": False}}, ("{}", '{"b": 1}'), ('{"a": 1}',)),
    ],
    "required": [
        ({**OBJECT, "properties": AB, "required": ["b"]}, ('{"b": ""}', '{"a": 1, "b": ""}'), ("{}", '{"a": 1}')),
        ({**OBJECT, "required": ["x"], "properties": A}, ('{"a": 1, "x": []}',), ('{"a": 1}', '{"x": 1, "a": 1}')),
        ({"required": ["x"]}, ("1", '{"x": 1}'), ("{}",)),
        ({**CLOSED, "required": ["x"], "properties": {"x": {}}}, ('{"x": 0}',), ("{}", '{"x": 0, "y": 0}')),
    ],
    "additionalProperties": [
        ({**CLOSED, "properties": A}, ("{}", '{"a": 1}'), ('{"b": 1}', '{"a": 1, "b": 1}', '{"a": 1, "a": 2}')),
        ({**OBJECT, "properties": A, "additionalProperties": STRING},
         ('{"a": 1, "b": ""}',), ('{"b": 1}', '{"a": ""}')),
        ({"allOf": [{"properties": A}, {"additionalProperties": False}]}, ("{}", "1"), ('{"a": 1}',)),
    ],
    "patternProperties": [
        ({**OBJECT, "patternProperties": {"^x": INTEGER}}, ('{"x1": 1, "y": ""}',), ('{"x1": ""}',)),
        ({**CLOSED, "patternProperties": {"^x": INTEGER}}, ('{"x": 1, "xx": 2}',), ('{"y": 1}', '{"x": 1, "x": 2}')),
        ({**CLOSED, "patternProperties": {"a": {"minimum": 1}, "b": INTEGER}},
         ('{"ab": 1}',), ('{"ab": 0}', '{"ab": 1.5}')),
        ({**CLOSED, "properties": {"x": STRING}, "patternProperties": {"x": {"maxLength": 1}}},
         ('{"x": "a"}', '{"xy": 12}'), ('{"x": "ab"}', '{"x": 1}', '{"xy": "ab"}')),
    ],
    "propertyNames": [
        ({**OBJECT, "propertyNames": {"pattern": "^[a-c]+$"}}, ("{}", '{"ab": 1}'), ('{"d": 1}', '{"": 1}')),
        ({**OBJECT, "propertyNames": {"enum": ["a", "b"]}}, ('{"b": 1, "a": 2}',), ('{"c": 1}', '{"a": 1, "a": 1}')),
        ({**OBJECT, "propertyNames": {"maxLength": 2, "minLength": 1}}, ('{"ab": 1}',), ('{"abc": 1}', '{"": 1}')),
        ({**OBJECT, "propertyNames": False}, ("{}",), ('{"a": 1}',)),
        ({**OBJECT, "properties": A, "propertyNames": {"const": "b"}}, ('{"b": 1}',), ('{"a": 1}',)),
    ],
    "minProperties and maxProperties": [
        ({**OBJECT, "minProperties": 2},
         ('{"a": 1, "b": 1}', '{"":0,"a":0,"b":0}'), ("{}", '{"a": 1}', '{"a":1,"a":1}')),
        ({**OBJECT, "maxProperties": 1}, ("{}", '{"a": 1}'), ('{"a": 1, "b": 1}',)),
        ({**CLOSED, "properties": AB, "minProperties": 1}, ('{"b": ""}', '{"a": 1}'), ("{}",)),
        ({**OBJECT, "properties": AB, "maxProperties": 2}, ('{"a": 1, "c": 1}',), ('{"a": 1, "b": "", "c": 1}',)),
        ({**OBJECT, "required": ["a"], "minProperties": 2, "maxProperties": 2}, ('{"a": 1, "b": 1}',), ('{"a": 1}',)),
        ({**OBJECT, "maxProperties": 0}, ("{}",), ('{"a": 1}',)),
    ],
    "items": [
        ({**ARRAY, "items": INTEGER}, ("[]", "[1]", "[1,2, 3]"), ('["a"]', "[1, null]", "[1,]", "1")),
        ({"items": False}, ("[]", "{}"), ("[1]",)),
        ({**ARRAY, "items": [INTEGER, STRING]}, ("[]", "[1]", '[1, "", null]'), ('[""]', "[1, 2]")),
        ({**ARRAY, "items": [INTEGER], "additionalItems": False}, ("[]", "[1]"), ("[1, 2]",)),
        ({**ARRAY, "items": [INTEGER], "additionalItems": STRING}, ('[1, ""]',), ("[1, 2]",)),
        ({**ARRAY, "items": INTEGER, "additionalItems": False}, ("[1, 2]",), ('[""]',)),
    ],
    "prefixItems": [
        ({**ARRAY, "prefixItems": [INTEGER, STRING]}, ("[]", "[1]", '[1, "", 1]'), ('[""]', "[1, 1]")),
        ({**ARRAY, "prefixItems": [INTEGER], "items": False}, ("[]", "[1]"), ("[1, 1]",)),
        ({**ARRAY, "prefixItems": [INTEGER], "items": STRING, "minItems": 2}, ('[1, ""]',), ("[1]", "[1, 1]")),
    ],
    "minItems and maxItems": [
        ({**ARRAY, "items": INTEGER, "minItems": 1, "maxItems": 3}, ("[1]", "[1, 2, 3]"), ("[]", "[1, 2, 3, 4]")),
        ({**ARRAY, "prefixItems": [{}, {}], "minItems": 1, "maxItems": 1}, ("[1]",), ("[]", "[1, 2]")),
        ({**ARRAY, "maxItems": 0}, ("[]",), ("[1]",)),
        ({**ARRAY, "maxItems": 2.0}, ("[1, 2]",), ("[1, 2, 3]",)),
    ],
    "contains": [
        ({**ARRAY, "contains": INTEGER}, ("[1]", '["a", 1, 2]'), ("[]", '["a"]', "[1.5]")),
        ({**ARRAY, "contains": INTEGER, "minContains": 2}, ('[1, "", 2]',), ("[1]", '[1, ""]')),
        ({**ARRAY, "contains": INTEGER, "maxContains": 1}, ('["", 1]',), ("[1, 1]", "[]")),
        ({**ARRAY, "contains": INTEGER, "minContains": 0}, ("[]", '[""]'), ("{}",)),
        ({**ARRAY, "contains": INTEGER, "minContains": 0, "maxContains": 1}, ("[]", "[1]"), ("[1, 2]",)),
        ({**ARRAY, "contains": INTEGER, "items": {"type": ["integer", "null"]}, "maxItems": 2},
         ("[null, 1]",), ("[null]",)),
    ],
    "uniqueItems": [
        ({**ARRAY, "uniqueItems": True, "items": STRING},
         ("[]", '["a", "b"]', '["a", "A"]'), ('["a", "a"]', '["","a",""]')),
        ({**ARRAY, "uniqueItems": True, "items": NUMBER},
         ("[1, 2, 1.5]",), ("[1, 1]", "[1, 1.0]", "[100, 1e2]", "[0, -0]")),
        ({**ARRAY, "uniqueItems": True, "items": {"enum": ["a", 1, None]}}, ('[null, 1, "a"]',), ("[1, 1]",)),
        ({**ARRAY, "uniqueItems": True, "items": {"type": "boolean"}, "minItems": 2},
         ("[true, false]",), ("[true, true]",)),
        ({**ARRAY, "uniqueItems": False, "items": INTEGER}, ("[1, 1]",), ('["a"]',)),
    ],
    "enum": [
        ({"enum": ["a", 7, None, [1, {"x": 1}], {"x": []}]},
         ('"a"', "7", "[1, {\"x\": 1}]", '{"x":[]}'), ("8", '"7"', "[1]")),
        ({"enum": [0.5, 1e3, True]}, ("0.5", "1000", "true"), ("1", "0", "false")),
        ({"enum": ["a", 7, 0.5], "type": "number"}, ("7", "0.5"), ('"a"',)),
        ({"enum": ["a", 7, 0.5], "type": "integer"}, ("7",), ("0.5",)),
        ({"enum": ["a", "ab", "abc"], "minLength": 2, "pattern": "c|b$"}, ('"ab"', '"abc"'), ('"a"',)),
        ({"enum": [1, 5, 9], "minimum": 4, "not": {"const": 9}}, ("5",), ("1", "9")),
        ({"enum": [1, 2], "const": 2}, ("2",), ("1",)),
        ({"enum": [{"a": 1}, {"a": ""}], "properties": A}, ('{"a": 1}',), ('{"a": ""}',)),
        ({"enum": [[1], [1, 2]], "minItems": 2}, ("[1, 2]",), ("[1]",)),
        ({"enum": ['"\\\n\u0000é']}, (r'"\"\\\n\u0000é"',), ('"é"',)),
    ],
    "const": [
        ({"const": {"a": [True, None]}}, ('{"a": [true, null]}', '{"a":[true,null]}'), ('{"a": [true]}', "{}")),
        ({"const": False}, ("false",), ("0",)),
        ({"const": 5.0}, ("5", "5.0"), ("5.5",)),
        ({"const": "a", "maxLength": 1}, ('"a"',), ('"b"',)),
    ],
    "anyOf": [
        ({"anyOf": [INTEGER, {"maxLength": 1}]}, ("1", '"a"', "null"), ('"ab"',)),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": AB, **OBJECT},
         ('{"a": 1}', '{"b": ""}', '{"a": 1, "b": ""}'), ("{}", '{"c": 1}', '{"a": ""}')),
        ({"anyOf": [STRING, False]}, ('""',), ("1",)),
    ],
    "oneOf": [
        ({"oneOf": [INTEGER, STRING]}, ("1", '""'), ("null", "1.5")),
        ({"oneOf": [INTEGER, {"minimum": 2}]}, ("1", "2.5", "null"), ("2", "1.5")),
        ({"oneOf": [{"multipleOf": 3}, {"multipleOf": 5}], **INTEGER}, ("3", "5", "10"), ("0", "15", "4")),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}], **OBJECT},
         ('{"a": 1}', '{"b": 1}'), ("{}", '{"a": 1, "b": 1}')),
        ({"oneOf": [{"pattern": "^a"}, {"pattern": "b$"}], **STRING}, ('"a"', '"b"'), ('"ab"', '"ba"')),
        ({"oneOf": [{}, {}]}, (), ()),
    ],
    "allOf": [
        ({"allOf": [INTEGER, {"minimum": 1}, {"maximum": 3}], "not": {"const": 2}}, ("1", "3"), ("0", "2", "4", "1.5")),
        ({"allOf": [{"properties": A}, {"required": ["a", "b"]}], **OBJECT}, ('{"a": 1, "b": null}',), ('{"a": 1}',)),
        ({"allOf": [{"pattern": "a"}, {"pattern": "b"}], **STRING}, ('"ab"', '"b-a"'), ('"a"', '"b"')),
    ],
    "not": [
        ({"not": STRING}, ("1", "{}"), ('""',)),
        ({"not": INTEGER}, ("1.5", '""'), ("1", "0")),
        ({"not": {}}, (), ()),
        ({"not": {"enum": ["a", 1, None]}}, ('"b"', "2", "true", '"aa"'), ('"a"', "1", "1.0", "null")),
        ({"not": {"enum": ["a"], "const": "b"}}, ('"a"', '"b"'), ()),
        ({"not": {"const": [1]}, **ARRAY}, ("[]", "[2]", "[1, 1]"), ("[1]",)),
        ({"not": {"enum": [{}, {"a": {"b": 1}}, [[]], "a"]}},
         ('{"b": 1}', '{"a": 1}', '{"a": {"b": 2}}', '{"a": {"b": 1}, "c": 1}', "[]", "[[], []]", '"b"'),
         ("{}", '{"a": {"b": 1}}', "[[]]", '"a"')),
        ({"oneOf": [{**ARRAY, "items": INTEGER}, {"enum": [[1], ["a"]]}]}, ("[]", '["a"]', "[2]"), ("[1]", '["b"]')),
        ({"not": {"required": ["a"]}, **OBJECT}, ("{}", '{"b": 1}'), ('{"a": 1}', '{"b": 1, "a": 2}')),
        ({"not": {"properties": A, **OBJECT}}, ("1", '{"a": ""}'), ("{}", '{"a": 1}', '{"b": ""}')),
        ({"not": {"minLength": 2, **STRING}, **STRING}, ('""', '"a"'), ('"ab"',)),
        ({"not": {"pattern": "^a"}, **STRING}, ('""', '"ba"'), ('"a"', '"ab"')),
        ({"not": {"items": INTEGER}, **ARRAY}, ("[null]", "[1, null]"), ("[]", "[1]")),
        ({"not": {"prefixItems": [INTEGER]}, **ARRAY}, ("[null]", "[null, 1]"), ("[]", "[1]", "[1, null]")),
        ({"not": {"contains": INTEGER}, **ARRAY}, ("[]", "[null]"), ("[1]", "[null, 1]")),
        ({"not": {"additionalProperties": INTEGER}, **OBJECT}, ('{"b": 1, "c": null}',), ("{}", '{"b": 1}')),
        ({"not": {"patternProperties": {"^x": INTEGER}}, **OBJECT}, ('{"x": ""}',), ("{}", '{"x": 1}', '{"y": ""}')),
        ({"not": {"propertyNames": {"maxLength": 1}}, **OBJECT},
         ('{"ab": 1}', '{"a": 1, "ab": 1}'), ("{}", '{"a": 1}')),
        ({"not": {"minProperties": 1}, **OBJECT}, ("{}",), ('{"a": 1}',)),
        ({"not": {"not": INTEGER}}, ("1",), ("1.5", '""')),
        ({"not": {"anyOf": [INTEGER, STRING]}}, ("1.5", "null"), ("1", '""')),
        ({"not": {"allOf": [INTEGER, {"minimum": 3}]}}, ("2", "3.5", "null"), ("3", "4")),
        ({"not": {"oneOf": [INTEGER, {"minimum": 2}]}}, ("2", "1.5"), ("1", "2.5", "null")),
        ({"not": {"multipleOf": 3}, **INTEGER}, ("1", "-2"), ("0", "3", "-3")),
        ({"not": {"format": "date"}, **STRING}, ('"a"', '""'), ('"2024-02-29"',)),
        ({"not": {"format": "time"}, **STRING}, ('"a"',), ('"23:59:60Z"', '"10:00:00.0000000000001Z"')),
        ({"not": {"format": "unheard-of"}}, (), ()),
        ({"not": {"if": INTEGER, "then": {"minimum": 5}}}, ("4",), ("5", '""', "1.5")),
    ],
    "if": [
        ({"if": INTEGER, "then": {"minimum": 5}, "else": {"maxLength": 1}}, ("5", '"a"', "1.5"), ("4", '"ab"')),
        ({"if": {"properties": {"k": {"const": "a"}}, "required": ["k"]}, "then": {"required": ["x"]}, **OBJECT,
          "properties": {"k": STRING}}, ('{"k": "a", "x": 1}', '{"k": "b"}', "{}"), ('{"k": "a"}',)),
        ({"if": False, "then": False, "else": INTEGER}, ("1",), ('""',)),
        ({"if": STRING}, ANYTHING, ("",)),
        ({"then": False, "else": False}, ANYTHING, ("",)),
    ],
    "dependencies": [
        ({"dependencies": {"a": ["b"]}, **OBJECT}, ("{}", '{"b": 1}', '{"a": 1, "b": 1}'), ('{"a": 1}',)),
        ({"dependencies": {"a": {"required": ["b"]}}, **OBJECT}, ("{}", '{"a": 1, "b": 1}'), ('{"a": 1}',)),
        ({"dependencies": {"a": False}, **OBJECT}, ("{}", '{"b": 1}'), ('{"a": 1}',)),
        ({"dependentRequired": {"a": ["b", "c"]}, **OBJECT, "properties": {"a": {}, "b": {}, "c": {}}},
         ('{"b": 1}', '{"a": 1, "b": 1, "c": 1}'), ('{"a": 1, "b": 1}',)),
        ({"dependentSchemas": {"a": {"properties": {"b": INTEGER}}}, **OBJECT},
         ('{"b": ""}', '{"b": 1, "a": 1}'), ('{"b": "", "a": 1}',)),
        ({"dependentRequired": {"a": ["b"]}}, ("1", "{}"), ('{"a": 1}',)),
    ],
    "unevaluatedProperties": [
        ({**OBJECT, "allOf": [{"properties": A}], "unevaluatedProperties": False}, ("{}", '{"a": 1}'), ('{"b": 1}',)),
        ({**OBJECT, "properties": A, "unevaluatedProperties": STRING},
         ('{"a": 1, "b": ""}',), ('{"b": 1}', '{"a": ""}')),
        ({**OBJECT, "anyOf": [{"properties": A, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}],
          "unevaluatedProperties": False}, ('{"a": 1}', '{"b": 1}'), ("{}", '{"a": 1, "c": 1}')),
        ({**OBJECT, "anyOf": [{"properties": {"a": INTEGER}}, {"properties": {"b": STRING}}],
          "unevaluatedProperties": False},
         ("{}", '{"a": 1, "b": ""}', '{"b": ""}'), ('{"a": "", "b": ""}', '{"c": 1}')),
        ({**OBJECT, "if": {"required": ["a"], "properties": {"a": {}}}, "unevaluatedProperties": False},
         ("{}", '{"a": 1}'), ('{"b": 1}',)),
        ({**OBJECT, "patternProperties": {"^x": {}}, "unevaluatedProperties": False}, ('{"x": 1}',), ('{"y": 1}',)),
        ({**OBJECT, "not": {"properties": {"a": STRING}, "required": ["a"]}, "unevaluatedProperties": False},
         ("{}",), ('{"a": 1}',)),
        ({"$ref": "#/$defs/a", "unevaluatedProperties": False, "$defs": {"a": {"properties": A}}},
         ('{"a": 1}',), ('{"b": 1}',)),
    ],
    "unevaluatedItems": [
        ({**ARRAY, "prefixItems": [INTEGER], "unevaluatedItems": False}, ("[]", "[1]"), ("[1, 2]",)),
        ({**ARRAY, "allOf": [{"prefixItems": [INTEGER]}], "unevaluatedItems": STRING}, ('[1, ""]',), ("[1, 2]",)),
        ({**ARRAY, "items": INTEGER, "unevaluatedItems": False}, ("[1, 2]",), ('[""]',)),
    ],
    "$ref": [
        ({"$ref": "#/$defs/a", "$defs": {"a": INTEGER}}, ("1",), ('""',)),
        ({"$ref": "#/$defs/a", "maxLength": 1, "$defs": {"a": STRING}}, ('"a"',), ('"ab"', "1")),
        ({"items": {"$ref": "#/definitions/a~1b%20c"}, **ARRAY, "definitions": {"a/b c": INTEGER}},
         ("[1]",), ('[""]',)),
        ({"$ref": "#/components/schemas/A", "components": {"schemas": {"A": INTEGER}}}, ("1",), ('""',)),
        ({"$ref": "#/$defs/node", "$defs": {"node": NODE}},
         ("{}", '{"n": 1, "next": {"next": {}}}'), ('{"next": {"n": ""}}',)),
        ({**ARRAY, "items": {"$ref": "#"}}, ("[]", "[[], [[]]]"), ("[1]", "[[1]]")),
        ({"properties": {"$ref": STRING}, **OBJECT}, ('{"$ref": ""}',), ('{"$ref": 1}',)),
        ({"$ref": "#/$defs/0", "$defs": {"60": INTEGER, **{str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(60)}}},
         ("1",), ('""',)),
    ],
    "$anchor, $id and $dynamicRef": [
        ({"$ref": "#x", "$defs": {"a": {"$anchor": "x", **INTEGER}}}, ("1",), ('""',)),
        ({"$ref": "#x", "definitions": {"a": {"id": "#x", **INTEGER}}}, ("1",), ('""',)),
        ({"$dynamicRef": "#x", "$defs": {"a": {"$dynamicAnchor": "x", **INTEGER}}}, ("1",), ('""',)),
        ({"$id": "http://a.example/b", "$ref": "c",
          "$defs": {"c": {"$id": "/c", "$ref": "#/$defs/d", "$defs": {"d": INTEGER}}, "d": STRING}}, ("1",), ('""',)),
        ({"id": "/a", "properties": {"p": {"id": "/b", "$ref": "#/definitions/x"}}, "definitions": {"x": INTEGER}},
         ('{"p": 1}',), ('{"p": ""}',)),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"y": INTEGER},  # `id` is an annotation
          "items": {"id": "a", "definitions": {"y": STRING}, "not": {"$ref": "#/definitions/y"}}}, ('[""]',), ("[1]",)),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "$id": "http://a.example/",  # `$ref` stands alone
          "definitions": {"x": {"$id": "x", **INTEGER}, "y": {"$id": "y/x", **STRING}},
          "items": {"$id": "y/", "$ref": "x"}}, ("[1]",), ('[""]',)),
        ({**OBJECT, "properties": {"$id": STRING, "id": STRING, "$anchor": STRING, "const": {"$ref": "e"},
          "enum": {"$id": "e", "$ref": "#/$defs/x", "$defs": {"x": INTEGER}}}},
         ('{"$id": "a", "id": "b", "const": 2, "enum": 1}',), ('{"enum": ""}', '{"const": ""}')),
        ({"patternProperties": {"$id": {"$ref": "#/$defs/x"}, "enum": {"$ref": "#/$defs/id"}},
          "$defs": {"x": INTEGER, "id": STRING, "$id": {}}}, ('{"enum": ""}',), ('{"enum": 1}',)),
        ({"dependentSchemas": {"$id": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"required": ["b"]}}, **OBJECT},
         ('{"$id": 1, "b": 1}',), ('{"$id": 1}',)),
        ({"x": {"$id": "http://a.example/b", **STRING}, "$ref": "http://a.example/b",  # `x` is no keyword
          "$defs": {"y": {"$id": "http://a.example/b", **INTEGER}}}, ("1",), ('""',)),
    ],
    "bounds": [
        ({**INTEGER, "minimum": -3, "maximum": 12}, ("-3", "0", "12"), ("-4", "13", "120")),
        ({**INTEGER, "minimum": 1.5, "maximum": 3.5}, ("2", "3"), ("1", "4")),
        ({**INTEGER, "exclusiveMinimum": 1, "exclusiveMaximum": 4}, ("2", "3"), ("1", "4")),
        ({**INTEGER, "minimum": 1, "exclusiveMinimum": True, "maximum": 4, "exclusiveMaximum": False},
         ("2", "4"), ("1", "5")),
        ({**NUMBER, "minimum": -0.5, "maximum": 1.25}, ("-0.5", "0", "1.25", "1.2"), ("-0.51", "1.26", "2")),
        ({**NUMBER, "exclusiveMinimum": 0, "exclusiveMaximum": 1}, ("0.5", "0.001"), ("0", "1", "1.0", "0.0", "-0.5")),
        ({**NUMBER, "minimum": 0}, ("0", "1e5", "2.5e-3", "-0"), ("-1", "-1e5", "-0.1")),
        ({**INTEGER, "minimum": -9007199254740991, "maximum": 9007199254740991},
         ("9007199254740991",), ("9007199254740992",)),
        ({"minimum": 5}, ("5", '"a"', "null"), ("4",)),
        ({**INTEGER, "minimum": 3, "maximum": 2}, (), ()),
    ],
    "multipleOf": [
        ({**INTEGER, "multipleOf": 7}, ("0", "7", "-14"), ("1", "8")),
        ({**NUMBER, "multipleOf": 0.25}, ("0.25", "1", "-2.50"), ("0.3", "0.125")),
        ({**NUMBER, "multipleOf": 0.01}, ("0.29", "-0.07"), ("0.001",)),
        ({**INTEGER, "multipleOf": 2.5}, ("5", "10"), ("2", "7")),
        ({**INTEGER, "multipleOf": 3, "minimum": 4, "maximum": 10}, ("6", "9"), ("3", "12", "5")),
    ],
    "minLength and maxLength": [
        ({**STRING, "minLength": 2, "maxLength": 3},
         ('"ab"', '"a\\n"', '"é😀"', '"\\"\\\\"'), ('"a"', '"abcd"', '"é"')),
        ({**STRING, "maxLength": 0}, ('""',), ('"a"',)),
        ({**STRING, "maxLength": 1}, ('"a"', r'"\u00e9"', r'"\n"'), (r'"\u00e9a"', r'"\n\n"')),
        ({"maxLength": 1}, ('"a"', "12"), ('"ab"',)),
        ({**STRING, "minLength": 3, "maxLength": 2}, (), ()),
    ],
    "pattern": [
        ({**STRING, "pattern": "^[a-z]{2}$"}, ('"ab"',), ('"a"', '"abc"', '"AB"')),
        ({**STRING, "pattern": "b"}, ('"b"', '"abc"'), ('"a"', '""')),
        ({**STRING, "pattern": "^.a"}, (r'"\"a"', r'"\\a"', '"éa"'), ('""a"', '"\\a"', r'"\na"')),
        ({**STRING, "pattern": r"^\S[^,]$"}, ('"ab"', r'"\"\n"'), ('" b"', '"a,"')),
        ({**STRING, "pattern": "^a*$", "minLength": 2, "maxLength": 3}, ('"aa"', '"aaa"'), ('"a"', '"aaaa"')),
        ({**STRING, "pattern": "^(a|b/)+$"}, ('"ab/a"', r'"b\/"'), ('"b"', '"/"')),
        ({"pattern": "^a$"}, ('"a"', "1", "{}"), ('"b"',)),
    ],
    "format": [
        ({**STRING, "format": "date"}, ('"2024-02-29"',), ('"2023-02-29"', '"2024-13-01"', '"24-01-01"')),
        ({**STRING, "format": "date-time"},
         ('"2024-01-01T10:00:00.5+01:00"',), ('"2024-01-01 10:00:00Z"', '"2024-01-01"')),
        ({**STRING, "format": "hostname"}, ('"a-b.example"', '"a"'), ('"-a"', '"a..b"', '"xn--a"', '"ab--c"')),
        ({**STRING, "format": "email", "maxLength": 5}, ('"a@b.c"',), ('"a@b.cd"', '"a@"')),
        ({**STRING, "format": "uuid", "pattern": "^0"},
         ('"01234567-89ab-cdef-0123-456789abcdef"',), ('"11234567-89ab-cdef-0123-456789abcdef"',)),
        ({**STRING, "format": "unheard-of"}, ('"a"',), ("1",)),
    ],
    "names": [
        ({**CLOSED, "properties": {'a"b\\c\n/é': INTEGER}}, (r'{"a\"b\\c\n/é": 1}',), ('{"a"b": 1}', '{"": 1}')),
        ({**CLOSED, "properties": {"": INTEGER}, "required": [""]}, ('{"": 1}',), ("{}",)),
        ({**OBJECT, "properties": {"a": INTEGER}, "additionalProperties": STRING},
         (r'{"\"\\\n": ""}',), ('{"a"b": ""}',)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("keyword", CASES)
def test_a_grammar_matches_what_the_schema_says(keyword):
    for schema, matching, others in CASES[keyword]:
        if not matching:
            with pytest.raises(RequestError, match="nothing is valid"):
                compile_schema(schema)
            continue
        tree = compile_schema(schema)
        assert [text for text in matching if not matches(tree, text)] == [], schema
        assert [text for text in others if matches(tree, text)] == [], schema


SAMPLED = {
    "a tree": {"$ref": "#/$defs/node", "$defs": {"node": {**NODE, "required": ["n"], "maxProperties": 2}}},
    "members": {
        **OBJECT, "properties": AB, "required": ["b"], "patternProperties": {"^[ab]": {"not": {"const": 1}}},
        "additionalProperties": {"type": ["string", "null"]}, "minProperties": 2, "maxProperties": 4,
    },
    "names": {
        **OBJECT, "propertyNames": {"pattern": "^[a-d]{1,2}$"}, "additionalProperties": NUMBER, "minProperties": 1,
    },
    "items": {**ARRAY, "prefixItems": [STRING], "items": {"enum": [1, 2, "a"]}, "minItems": 1, "maxItems": 4},
    "unique ones": {**ARRAY, "items": {"anyOf": [NUMBER, STRING]}, "uniqueItems": True, "maxItems": 5},
    "contained ones": {
        **ARRAY, "items": {"type": ["integer", "string"]}, "contains": {**INTEGER, "minimum": 3}, "maxContains": 2,
    },
    "branches": {"oneOf": [
        {**OBJECT, "properties": {"kind": {"const": "a"}, "x": INTEGER}, "required": ["kind"]},
        {**OBJECT, "properties": {"kind": {"enum": ["b", "c"]}}, "required": ["kind", "y"]},
        INTEGER,
    ]},
    "conditions": {
        **OBJECT, "properties": {"k": {"type": "boolean"}, "v": {}}, "dependentRequired": {"v": ["k"]},
        "if": {"properties": {"k": {"const": True}}}, "then": {"properties": {"v": STRING}},
        "else": {"required": ["v"]},
    },
    "scalars": {"anyOf": [
        {**STRING, "minLength": 1, "maxLength": 5, "pattern": "^[^ ]"},
        {**INTEGER, "multipleOf": 6, "minimum": -20},
        {**NUMBER, "exclusiveMinimum": 0, "maximum": 2.5},
        {"const": {"a": [None]}},
    ]},
    "formats": {**ARRAY, "items": {"anyOf": [{**STRING, "format": name} for name in ("date", "ipv4", "ipv6", "uuid")]}},
    "unevaluated ones": {
        **OBJECT, "anyOf": [{"properties": A, "required": ["a"]}, {"properties": {"b": STRING}}],
        "unevaluatedProperties": {"type": "boolean"},
    },
}  # fmt: skip


def variations():
    for name, schema in SAMPLED.items():
        yield name, schema
        random = Random(name)
        for number in range(12):
            varied = vary_schema(schema, random, random.choice(list(SAMPLED.values())))
            if jsonschema.Draft202012Validator(jsonschema.Draft202012Validator.META_SCHEMA).is_valid(varied):
                yield f"{name}, variation {number}", varied


VARIATIONS = dict(variations())


def compiled(schema):
    try:
        return compile_schema(schema)
    except RequestError as exc:
        return exc


@pytest.mark.parametrize("name", VARIATIONS)
def test_every_text_of_a_grammar_is_valid(name):
    schema, random = VARIATIONS[name], Random(name)
    tree = compiled(schema)
    if isinstance(tree, RequestError):
        assert tree.hint
        return
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    texts = [sample(tree, random, length) for length in (5, 20, 60, 120)]
    assert any(texts)
    for text in filter(None, texts):
        assert not list(validator.iter_errors(json.loads(text))), (text, schema)


@pytest.mark.parametrize("name", SAMPLED)
def test_every_valid_instance_matches_in_the_schemas_order(name):
    schema, random = SAMPLED[name], Random(name)
    tree, order = compile_schema(schema), SchemaOrder(schema)
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    texts = [sample(tree, random, 40) for _ in range(4)]
    instances = [json.loads(text) for text in texts if text and "e" not in text.lower()]
    varied = [vary_instance(instance, random) for instance in instances for _ in range(30)]
    valid = [order.texts(instance)[0] for instance in varied if validator.is_valid(instance)]
    assert valid or not instances
    assert [text for text in valid if not matches(tree, text)] == []


REJECTED = {
    "unevaluatedItems beside contains": {"contains": INTEGER, "unevaluatedItems": False},
    "inside of one another, beside unevaluated": {"not": {"not": {"properties": A}}, "unevaluatedProperties": False},
    "unevaluatedProperties inside not": {"not": {"unevaluatedProperties": False}},
    "uniqueItems inside not": {"not": {"uniqueItems": True}},
    "uniqueItems of objects": {**ARRAY, "uniqueItems": True, "items": OBJECT},
    "the format 'regex'": {**STRING, "format": "regex"},
    "the $ref 'http://a.example/b' to another document": {"$ref": "http://a.example/b"},
    "leads back to itself": {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}},
    "has several targets": {
        "$dynamicAnchor": "x", "$id": "http://a.example/", "$defs": {"a": {"$id": "a", "$dynamicAnchor": "x"}},
        "properties": {"p": {"$dynamicRef": "a#x"}},
    },
    "the $recursiveRef #, which has several targets": {
        "$recursiveAnchor": True, "$id": "http://a.example/", "properties": {"p": {"$recursiveRef": "#"}},
        "$defs": {"a": {"$id": "a", "$recursiveAnchor": True}},
    },
}  # fmt: skip


@pytest.mark.parametrize("words", REJECTED)
def test_what_is_not_supported_is_rejected_by_name(words):
    with pytest.raises(RequestError, match=f"{re.escape(words)}.* at #") as caught:
        compile_schema(REJECTED[words])
    assert caught.value.hint


def matches(tree, text: str) -> bool:
    matcher = Matcher(tree)
    return matcher.feed(text) == len(text) and matcher.complete
