import gzip
import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
from jsonschema import (
    Draft4Validator,
    Draft6Validator,
    Draft7Validator,
    Draft201909Validator,
    Draft202012Validator,
)

from runtime.errors import RequestError
from runtime.grammar.json_schema.keywords import KEYWORDS
from runtime.grammar.json_schema.validity import check_valid
from runtime.grammar.regular.regex_check import is_regex

INVALID = {
    "a length below 0": ({"properties": {"a": {"maxLength": -1}}}, "#/properties/a/maxLength is -1"),
    "a length of a half": ({"minLength": 0.5}, "#/minLength is 0.5"),
    "a length as text": ({"items": [{}, {"maxItems": "1"}]}, '#/items/1/maxItems is "1"'),
    "no value": ({"enum": []}, "#/enum is []"),
    "a misspelled type": ({"anyOf": [{"type": "strin"}]}, '#/anyOf/0/type is "strin"'),
    "a type twice": ({"type": ["null", "null"]}, '#/type is ["null", "null"]'),
    "no type": ({"type": []}, "#/type is []"),
    "required as text": ({"required": "a"}, '#/required is "a"'),
    "required of draft 3": ({"properties": {"a": {"required": True}}}, "#/properties/a/required is true"),
    "required twice": ({"required": ["a", "a"]}, '#/required is ["a", "a"]'),
    "a pattern": ({"pattern": "("}, '#/pattern is "("'),
    "a pattern of names": ({"patternProperties": {"a)/": {}}}, '#/patternProperties/a)~1 is "a)/"'),
    "no schemas": ({"allOf": []}, "#/allOf is []"),
    "no schema": ({"properties": {"a": 1}}, "#/properties/a is 1"),
    "properties as a list": ({"not": {"properties": ["a"]}}, '#/not/properties is ["a"]'),
    "a dependency": ({"dependencies": {"a": "b"}}, '#/dependencies/a is "b"'),
    "a type in a dependency": ({"dependencies": {"a": {"type": 1}}}, "#/dependencies/a/type is 1"),
    "names that need escapes": ({"properties": {"a/~b": {"minimum": "1"}}}, '#/properties/a~1~0b/minimum is "1"'),
    "a reference to nothing": ({"items": {"$ref": "#/$defs/T"}}, '#/items/$ref is "#/$defs/T"'),
    "a reference to no anchor": ({"$ref": "#T", "$defs": {"T": {}}}, '#/$ref is "#T"'),
    "a reference beyond a list": ({"$ref": "#/anyOf/1", "anyOf": [{}]}, '#/$ref is "#/anyOf/1"'),
    "a reference that is none": ({"$ref": {"type": "string"}}, '#/$ref is {"type": "string"}'),
    "a reference that is no URI": ({"$ref": "http://[#a"}, '#/$ref is "http://[#a"'),
    "an identifier that is no URI": ({"items": {"$id": "http://[#a"}}, '#/items is {"$id": "http://[#a"}'),
    "an identifier without end": ({"$id": "a" * 3000}, '# is {"$id": "aaa'),
    "a target that is no schema": ({"$ref": "#/x/1", "x": [1, 2]}, "#/x/1 is 2"),
    "a target that is not valid": ({"$ref": "#/x/1", "x": [1, {"not": {"type": 1}}]}, "#/x/1/not/type is 1"),
    "a list": ([], "# is []"),
    "no JSON schema": (None, "# is null"),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "words"), INVALID.values(), ids=INVALID.keys())
def test_an_invalid_schema_is_rejected_with_its_json_pointer(schema, words):
    with pytest.raises(RequestError) as caught:
        check_valid(schema)
    assert str(caught.value).startswith(f"the schema is not valid: {words}")
    assert caught.value.hint


ADDRESS = {"type": "object"}
VALID = {
    "all": True,
    "nothing": False,
    "names of keywords": {"properties": {"$ref": {"type": "string"}, "enum": {}, "$id": {"enum": [{"type": 1}]}}},
    "values": {"const": {"type": 1}, "enum": [{"enum": []}], "default": {"$ref": "#/x"}},
    "annotations": {"title": 1, "examples": "a", "x-a": {"type": 1}, "$comment": None},
    "recursion": {"$ref": "#", "items": {"$ref": "#/items"}},
    "a root": {"properties": {"a": {"$ref": ""}}},
    "escapes": {"$defs": {"a/~ %b": {}}, "$ref": "#/$defs/a~1~0%20%25b"},
    "an unusual place": {"x": {"y": [{}]}, "$ref": "#/x/y/0"},
    "an anchor": {"$defs": {"a": {"$anchor": "b"}}, "items": {"$ref": "#b"}},
    "a dynamic anchor": {"$defs": {"a": {"$dynamicAnchor": "b"}}, "$dynamicRef": "#b"},
    "an anchor of draft 4": {"definitions": {"a": {"id": "#b"}}, "$ref": "#b"},
    "its own identifier": {"$id": "http://a.example/b", "$defs": {"c": {}}, "$ref": "http://a.example/b#/$defs/c"},
    "an embedded schema": {
        "$id": "http://a.example/b", "items": {"$ref": "c#/$defs/d"},
        "$defs": {"c": {"$id": "/c", "$ref": "#/$defs/d", "$defs": {"d": ADDRESS}}},
    },
    "pointers from the root in spite of an identifier": {
        "id": "http://a.example/", "definitions": {"a": {}}, "items": {"id": "/a", "not": {"$ref": "#/definitions/a"}},
    },
    "another document": {"$ref": "http://a.example/b#/c"},
}  # fmt: skip


@pytest.mark.parametrize("schema", VALID.values(), ids=VALID.keys())
def test_a_valid_schema_is_accepted(schema):
    check_valid(schema)


REGEXES = {
    "": True, "^a|b$": True, "[]a]": True, "[^]": True, "[(]": True, r"\(": True, "(?i)a": True, "(?:a)+?": True,
    "(?<a>b)(?<!c)(?<=d)": True, "(?P<a>b)": True, r"\p{L}\cA\/": True, "a{2,}b{,3}{": True, "a{1,02}?": True,
    "}]": True, "a*+": True,
    "(": False, ")": False, "(a))": False, "[a": False, "\\": False, "*": False, "(*)": False, "a|+": False,
    "a**": False, "a{2}{3}": False, "a{3,2}": False, "(?a": False, "a+*": False, "a*?+": False,
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "valid"), REGEXES.items())
def test_regular_expressions_are_valid_in_ecmas_syntax_or_pythons(pattern, valid):
    assert is_regex(pattern) is valid


DRAFTS = (Draft4Validator, Draft6Validator, Draft7Validator, Draft201909Validator, Draft202012Validator)
VALUES = (
    None, True, False, -1, 0, 1, 2.0, 2.5, "a", "string", [], ["a"], ["a", "a"], ["string", "null"], [1], [{}], [True],
    [{"type": 1}], {}, {"a": 1}, {"a": {}}, {"a": True}, {"a": []}, {"a": ["b"]}, {"a": ["b", "b"]}, {"a": {"type": 1}},
    {"type": 1}, {"items": {"type": 1}},
)  # fmt: skip


@pytest.mark.parametrize("keyword", sorted(KEYWORDS))
def test_each_keyword_has_the_form_of_the_drafts_metaschemas(keyword):
    bounds = {"minimum": 1, "maximum": 1}  # those of draft 4 need them beside exclusiveMinimum

    def accepting(value):
        return {draft for draft in DRAFTS if draft(draft.META_SCHEMA).is_valid(bounds | {keyword: value})}

    accepted = [accepting(value) for value in VALUES]
    knowing = set(DRAFTS) - set.intersection(*accepted)  # the others accept anything under an unknown keyword
    for value, drafts in zip(VALUES, accepted, strict=True):
        valid = bool(drafts & knowing) or not knowing
        if (keyword, value) == ("enum", []):  # valid since draft 7, but nothing can be written
            valid = False
        try:
            check_valid({keyword: value})
        except RequestError:
            assert not valid, value
        else:
            assert valid, value


SIXTH = Path(__file__).parents[2] / "shared" / "schemas" / "maskbench-sixth.jsonl.gz"


@pytest.mark.skipif(not SIXTH.exists(), reason="the benchmark's schemas are not here")
def test_no_schema_of_the_benchmark_is_rejected():
    with gzip.open(SIXTH, "rt", encoding="utf-8") as lines:
        for line in lines:
            check_valid(json.loads(line)["schema"])


def nested(levels, form):
    schema = {}
    for _ in range(levels):
        schema = form(schema)
    return schema


HOSTILE = {
    "depth": nested(100_000, lambda inner: {"not": inner}),
    "references to one another": {"$defs": {f"{i}": {"$ref": f"#/$defs/{(i + 1) % 30_000}"} for i in range(30_000)}},
    "identifiers within one another": nested(500, lambda inner: {"$id": "a/b/", "not": inner}),
    "long names": {"properties": {"a" * 30_000: {"properties": {f"{i}": {} for i in range(20_000)}}}},
    "a long pattern": {"pattern": "(" * 100_000 + "[" * 100_000},
    "a long count": {"pattern": "a{" + "1" * 50_000 + ",2}"},
    "a long index": {"$ref": "#/a/" + "1" * 50_000, "a": []},
    "joined with a long identifier": {
        "$id": "http://a.example/" + "a/" * 900, "anyOf": [{"$ref": f"{i}"} for i in range(2_000)],
    },
}  # fmt: skip


@pytest.mark.parametrize("schema", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_schema_takes_linear_time(schema):
    start = time.process_time()
    with suppress(RequestError):
        check_valid(schema)
    assert time.process_time() - start < 2


def test_a_large_value_is_shown_in_part():
    with pytest.raises(RequestError) as caught:
        check_valid({"a" * 1000: {}, "properties": {"b" * 1000: {"type": ["c" * 1000] * 1000}}})
    assert len(str(caught.value)) < 500
