"""Schemas that were written to be expensive: each becomes a grammar or is refused, within bounds of work and depth."""

import json

import pytest

from benchmarks.hostile_schemas import SCHEMAS, TEXTS, feed, to_json
from runtime.errors import RequestError
from runtime.grammar.grammar import JsonSchema
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.matcher import Matcher
from runtime.grammar.printers.ebnf import to_ebnf

pytestmark = pytest.mark.timeout(60)  # they take a second at most; what never ends must not stop the suite


def refusal(make) -> RequestError | None:
    """Return the error of a constructor, None if it raises none."""
    try:
        make()
    except RequestError as exc:
        return exc
    return None


def matches_are_bounded(tree) -> bool:
    return all(0 <= feed(Matcher(tree), text) <= len(text) for text in TEXTS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_hostile_schema_becomes_a_grammar_or_is_refused(name):
    schema, trees = SCHEMAS[name](), []
    error = refusal(lambda: trees.append(compile_schema(schema)))
    if error is not None:
        assert str(error).startswith(("unsupported JSON schema: ", "the schema is not valid: "))
        assert error.hint
        assert len(str(error)) < 500
        assert "\n" not in str(error)
    else:
        assert to_ebnf(trees[0]).text
        assert matches_are_bounded(trees[0])


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_validated_before_it_is_compiled(name):
    text = to_json(SCHEMAS[name]())
    error = refusal(lambda: JsonSchema(text))
    assert error is None or error.hint


def test_schemas_are_written_as_json():
    schema = {"a": [1, -2.5, True, None, '"é'], "b": {}, "c": [[], {"d": 10**30}]}
    assert json.loads(to_json(schema)) == schema
