"""JSON-Schema-Test-Suite, draft 2020-12: every schema is enforced or rejected by name, and no invalid instance matches.

The suite is not part of the project: `tests/environments/json_schema_suite.sh` fetches it and runs these tests.
JSON_SCHEMA_TEST_SUITE names its folder. `-s` prints a table.
"""

import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from benchmarks.peers_report import markdown_table
from benchmarks.schema_texts import SchemaOrder, dump
from runtime.errors import RequestError
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.matcher import Matcher

FOLDER = Path(os.environ.get("JSON_SCHEMA_TEST_SUITE", "no-suite")) / "tests" / "draft2020-12"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.json"))

pytestmark = [
    pytest.mark.schema_suite,
    pytest.mark.skipif(not FILES, reason="JSON_SCHEMA_TEST_SUITE does not name the suite's folder"),
]


@dataclass
class Result:
    """What became of a file's schemas and instances."""

    enforced: int = 0
    rejected: int = 0
    unnamed: list[str] = field(default_factory=list)  # rejected by a message that names no part of the schema
    invalid: int = 0
    possible: list[str] = field(default_factory=list)  # invalid instances that match
    valid: int = 0
    impossible: list[str] = field(default_factory=list)  # valid ones that do not, with keys in the schema's order


@cache
def result_of(name: str) -> Result:
    result = Result()
    for group in json.loads((FOLDER / name).read_text(encoding="utf-8")):
        schema = group["schema"]
        try:
            tree = compile_schema(schema)
        except RequestError as exc:
            result.rejected += 1
            if not (re.search(r" #|nothing is valid", str(exc)) and exc.hint):
                result.unnamed.append(f"{group['description']}: {exc}")
            continue
        result.enforced += 1
        order = SchemaOrder(schema)
        for test in group["tests"]:
            what = f"{group['description']}: {test['description']}: {json.dumps(test['data'])[:100]}"
            if test["valid"]:
                result.valid += 1
                result.impossible += [] if all(matches(tree, t) for t in order.texts(test["data"])) else [what]
            else:
                result.invalid += 1
                texts = {*order.texts(test["data"]), *dump(test["data"])}
                result.possible += [what] if any(matches(tree, text) for text in texts) else []
    return result


def matches(tree, text: str) -> bool:
    matcher = Matcher(tree)
    return matcher.feed(text) == len(text) and matcher.complete


@pytest.mark.parametrize("name", FILES)
def test_every_schema_is_enforced_or_rejected_by_name(name):
    result = result_of(name)
    assert result.enforced + result.rejected
    assert not result.unnamed


@pytest.mark.parametrize("name", FILES)
def test_no_invalid_instance_matches(name):
    assert not result_of(name).possible


def test_table(capsys):
    """Print what became of every file."""
    results = {name: result_of(name) for name in FILES}
    rows = [
        (name, f"{r.enforced}", f"{r.rejected}", f"{len(r.possible)}/{r.invalid}", f"{len(r.impossible)}/{r.valid}")
        for name, r in results.items()
    ]
    columns = ("file", "enforced", "rejected", "invalid that match", "valid that do not")
    with capsys.disabled():
        print("\n" + markdown_table(columns, rows))
        for name, result in results.items():
            for what in result.impossible:
                print(f"{name}: does not match: {what}")
    assert sum(result.enforced for result in results.values()) > sum(result.rejected for result in results.values())
