"""Random texts of the grammars of JSON schemas, against the jsonschema package.

    python -m benchmarks.schema_samples FILE [--only NAME] [--texts N] [--variations N] [--seed N]

FILE is as for `benchmarks.schemas`. Of each schema that is accepted, and of random variations of it, texts are drawn
from the grammar; each has to be valid. Variations of them and of the file's instances that are valid, with their keys
in the schema's order, have to match.

Formats are checked with the packages of `pip install "jsonschema[format-nongpl]"`; those missing are not.
"""

import argparse
import json
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
from jsonschema.validators import Draft202012Validator, validator_for

from benchmarks.peers_report import markdown_table
from benchmarks.schema_sampler import sample, vary_instance, vary_schema
from benchmarks.schema_texts import SchemaOrder
from benchmarks.schemas import SchemaCase, read_cases
from runtime.errors import RequestError
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.matcher import Matcher

_SHOWN = 200  # characters of a text in the list of findings
_UNJUDGED = "not judged: "


@dataclass(frozen=True, slots=True)
class Finding:
    """A text that the grammar and the jsonschema package judge differently, and why."""

    name: str
    schema: Any
    text: str
    reason: str

    def __str__(self) -> str:
        return "\t".join((self.name, self.reason, self.text[:_SHOWN], json.dumps(self.schema)[: 10 * _SHOWN]))


@dataclass(slots=True)
class Findings:
    """What random texts found."""

    schemas: int = 0
    refused: int = 0
    texts: int = 0
    unfinished: int = 0
    instances: int = 0
    invalid: list[Finding] = field(default_factory=list)
    unjudged: list[Finding] = field(default_factory=list)
    impossible: list[Finding] = field(default_factory=list)

    def draw(self, name: str, schema: Any, instances: list[Any], texts: int, *, random: Random) -> None:
        """Draw texts of a schema's grammar, and variations of them and of its instances."""
        self.schemas += 1
        try:
            tree = compile_schema(schema)
        except RequestError:
            self.refused += 1
            return
        draft = validator_for(schema, default=Draft202012Validator)
        validator, order = draft(schema, format_checker=draft.FORMAT_CHECKER), SchemaOrder(schema)
        drawn = []
        for _ in range(texts):
            text = sample(tree, random, random.choice((10, 60, 200)))
            if text is None:
                self.unfinished += 1
                continue
            self.texts += 1
            instance = json.loads(text)
            # A number with an exponent may be too long when it is written again.
            drawn += [] if re.search("[eE]", text) else [instance]
            if reason := _reason(validator, instance):
                unjudged = reason.startswith(_UNJUDGED)
                (self.unjudged if unjudged else self.invalid).append(Finding(name, schema, text, reason))
        varied = [vary_instance(instance, random) for instance in instances + drawn for _ in range(3)]
        self.instances += len(varied)
        for text in (order.texts(instance)[0] for instance in varied if not _reason(validator, instance)):
            matcher = Matcher(tree)
            taken = matcher.feed(text)
            if taken < len(text) or not matcher.complete:
                where = f"…{text[max(0, taken - 40) : taken]} >>> {text[taken:][:40]}"
                self.impossible.append(Finding(name, schema, text, where))


def _reason(validator: Any, instance: Any) -> str:
    """Return why the instance is not valid; "" if it is."""
    try:
        error = next(validator.iter_errors(instance), None)
    except Exception as exc:  # patterns that are not Python's, and what the package crashes on  # noqa: BLE001
        return f"{_UNJUDGED}{type(exc).__name__} {exc}"
    return f"{error.validator} at {error.json_path}: {error.message[:_SHOWN]}" if error else ""


def search(cases: list[SchemaCase], texts: int, variations: int, seed: int) -> Findings:
    """Draw texts of the grammars of schemas, and of variations of the schemas."""
    found = Findings()
    for case in cases:
        random = Random(f"{seed} {case.name}")
        found.draw(case.name, case.schema, list(case.valid), texts, random=random)
        for _ in range(variations):
            # Keywords are added that drafts before do not know.
            schemas = [_without_dialect(schema) for schema in (case.schema, random.choice(cases).schema)]
            varied = vary_schema(schemas[0], random, schemas[1])
            with suppress(jsonschema.exceptions.SchemaError, RecursionError):
                Draft202012Validator.check_schema(varied)
                found.draw(f"{case.name} varied", varied, list(case.valid), texts, random=random)
    return found


def _without_dialect(schema: Any) -> Any:
    return {key: schema[key] for key in schema if key != "$schema"} if isinstance(schema, dict) else schema


def report(found: Findings, seconds: float) -> Iterator[str]:
    """Yield the figures, then each finding."""
    rows = [
        ("schemas refused", f"{found.refused} of {found.schemas}"),
        ("texts drawn", f"{found.texts:,}"),
        ("given up before their end", f"{found.unfinished:,}"),
        ("not judged", f"{len(found.unjudged):,}"),
        ("invalid", f"{len(found.invalid):,}"),
        ("instances tried", f"{found.instances:,}"),
        ("valid ones that do not match", f"{len(found.impossible):,}"),
        ("CPU-s", f"{seconds:.0f}"),
    ]
    yield markdown_table(("figure", ""), rows)
    for title in ("invalid", "impossible", "unjudged"):
        yield from (f"{title}\t{finding}" for finding in getattr(found, title))


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", metavar="NAME", help="schemas whose names contain this")
    parser.add_argument("--texts", type=int, default=20, help="texts of each schema")
    parser.add_argument("--variations", type=int, default=2, help="variations of each schema")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of references that the package would fetch
    start = time.process_time()
    found = search(list(read_cases(args.file, args.only)), args.texts, args.variations, args.seed)
    print(*report(found, time.process_time() - start), sep="\n")


if __name__ == "__main__":
    main()
