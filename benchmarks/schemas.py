"""What the grammars of JSON schemas accept, of schemas with valid and invalid instances.

    python -m benchmarks.schemas FILE [--only NAME] [--list] [--seconds] [--tokenizer FOLDER]

FILE is JSON lines, gzipped or not, each `{"name": …, "schema": …, "tests": [{"data": …, "valid": true}, …]}`, as of the
public benchmark maskbench (guidance-ai/jsonschemabench). Each schema becomes a grammar, or is refused by the name of a
keyword. Each instance is written with blanks after its separators and without, and read by the grammar's matcher: a
valid one with its keys in the schema's order, an invalid one with those of the file as well.

`--list` prints the refused schemas, `--seconds` the slowest. `--tokenizer` names a folder with the tokenizer.json that
divides texts into tokens. Seconds are CPU time, those of matching of the first time that a grammar reads a text.
"""

import argparse
import gc
import gzip
import json
import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.peers_report import markdown_table
from benchmarks.schema_texts import SchemaOrder, dump
from runtime.errors import RequestError
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.matcher import Matcher
from runtime.grammar.tree import Tree

_KEYWORDS = frozenset(
    """type properties required additionalProperties patternProperties propertyNames minProperties maxProperties items
    prefixItems additionalItems minItems maxItems uniqueItems contains minContains maxContains enum const anyOf oneOf
    allOf not if then else dependencies dependentRequired dependentSchemas $ref $dynamicRef $recursiveRef minimum
    maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern format unevaluatedProperties
    unevaluatedItems""".split()
)
_SHOWN = 20  # lines of each list

Split = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class SchemaCase:
    """A schema and the instances that are known to be valid or invalid under it."""

    name: str
    schema: Any
    valid: tuple[Any, ...]
    invalid: tuple[Any, ...]


@dataclass(slots=True)
class Measurement:
    """What became of the schemas of a file: findings in the order in which they were made."""

    schemas: int = 0
    accepted: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)  # name, message
    crashed: list[tuple[str, str]] = field(default_factory=list)
    valid: int = 0
    invalid: int = 0
    impossible: list[tuple[str, str]] = field(default_factory=list)  # of the valid instances: name, where it stopped
    possible: list[tuple[str, str]] = field(default_factory=list)  # of the invalid ones: name, text
    misordered: int = 0  # valid instances that do not match with the file's order of keys, and do with the schema's
    barren: list[str] = field(default_factory=list)  # schemas none of whose valid instances is possible
    differing: list[tuple[str, str]] = field(default_factory=list)  # taken with one kind of separators alone
    build_seconds: list[tuple[float, str]] = field(default_factory=list)
    characters: int = 0
    match_seconds: float = 0.0
    token_seconds: list[float] = field(default_factory=list)
    slowest_tokens: list[tuple[float, str]] = field(default_factory=list)  # of each schema


def read_cases(file: Path, only: str = "") -> Iterator[SchemaCase]:
    """Yield the schemas of a file whose names contain `only`."""
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            if only in line["name"]:
                tests = line["tests"]
                yield SchemaCase(
                    line["name"],
                    line["schema"],
                    tuple(test["data"] for test in tests if test["valid"]),
                    tuple(test["data"] for test in tests if not test["valid"]),
                )


def measure(cases: Iterable[SchemaCase], split: Split = list) -> Measurement:
    """Compile every schema, and match its instances token by token, as `split` divides them."""
    found = Measurement()
    for case in cases:
        found.schemas += 1
        start = time.process_time()
        try:
            tree = compile_schema(case.schema)
        except RequestError as exc:
            found.refused.append((case.name, str(exc)))
        except Exception as exc:  # a failure is a finding  # noqa: BLE001
            found.crashed.append((case.name, f"{type(exc).__name__}: {exc}"))
        else:
            found.accepted.append(case.name)
        found.build_seconds.append((time.process_time() - start, case.name))
        if found.accepted[-1:] == [case.name]:
            gc.freeze()  # or some token pays for a collection of everything before
            try:
                measure_instances(found, case, tree, split)
            except Exception as exc:  # a failure is a finding  # noqa: BLE001
                found.crashed.append((case.name, f"{type(exc).__name__} while matching: {exc}"))
    return found


def measure_instances(found: Measurement, case: SchemaCase, tree: Tree, split: Split) -> None:
    """Add what the grammar accepts of a schema's instances."""
    order = SchemaOrder(case.schema)
    matched, before = 0, len(found.token_seconds)
    for instance in case.valid:
        texts = order.texts(instance)
        ends = [match(found, tree, text, split) for text in texts]
        if None in ends:
            matched += ends == [None] * len(ends)
            found.differing += [] if ends == [None] * len(ends) else [(case.name, texts[0])]
        if ends[0] is not None:
            found.impossible.append((case.name, _mark(texts[0], ends[0])))
        elif dump(instance) != texts:
            found.misordered += match(found, tree, dump(instance)[0], split) is not None
    for instance in case.invalid:
        for texts in {order.texts(instance), dump(instance)}:
            taken = [match(found, tree, text, split) is None for text in texts]
            if any(taken):
                found.possible.append((case.name, texts[0]))
                found.differing += [] if all(taken) else [(case.name, texts[0])]
                break
    found.slowest_tokens.append((max(found.token_seconds[before:], default=0.0), case.name))
    found.valid += len(case.valid)
    found.invalid += len(case.invalid)
    if case.valid and not matched:
        found.barren.append(case.name)


def match(found: Measurement, tree: Tree, text: str, split: Split) -> int | None:
    """Return where the grammar refuses the text, its length if it may not end there, None if it matches."""
    matcher = Matcher(tree)
    position = 0
    for token in split(text):
        start = time.process_time()
        taken = matcher.feed(token)
        seconds = time.process_time() - start
        found.token_seconds.append(seconds)
        found.match_seconds += seconds
        found.characters += len(token)
        position += taken
        if taken < len(token):
            return position
    return None if matcher.complete else position


def keyword_of(message: str) -> str:
    """Return the keyword that a message names: the last of its JSON pointer."""
    for pointer in re.findall(r"#(?:/[^\s:,;'\"]*)+", message):
        for token in reversed(pointer.split("/")):
            if token in _KEYWORDS:
                return token
    return next((word for word in re.findall(r"\$?\w+", message) if word in _KEYWORDS), "others")


def by_tokenizer(folder: Path) -> Split:
    """Return the function that divides a text as a folder's tokenizer does."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def split(text: str) -> list[str]:
        starts = [start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets]
        return [text[start:end] for start, end in pairwise([*starts, len(text)])]  # parts of a character are empty

    return split


def table(found: Measurement, unit: str) -> str:
    """Return the figures as a Markdown table."""
    seconds, names = zip(*sorted(found.build_seconds), strict=True)
    tokens = sorted(found.token_seconds) or [0.0]
    rows = [
        ("accepted", f"{_share(len(found.accepted), found.schemas)}"),
        ("refused", f"{_share(len(found.refused), found.schemas)}"),
        ("crashed", str(len(found.crashed))),
        ("invalid instances that match", f"{len(found.possible)} of {found.invalid}"),
        ("valid instances that do not", f"{len(found.impossible)} of {found.valid}"),
        ("further ones with their keys in the file's order", str(found.misordered)),
        ("schemas that can write none of their valid instances", str(len(found.barren))),
        ("instances that match with one kind of separators alone", str(len(found.differing))),
        ("CPU-s to build or refuse: median", f"{statistics.median(seconds):.4f}"),
        ("99 %", f"{seconds[len(seconds) * 99 // 100]:.3f}"),
        ("worst", f"{seconds[-1]:.3f} ({names[-1]})"),
        ("CPU-µs to match a character", f"{1e6 * found.match_seconds / max(1, found.characters):.1f}"),
        (f"CPU-ms to match a {unit}: median", f"{1e3 * statistics.median(tokens):.4f}"),
        ("99 %", f"{1e3 * tokens[len(tokens) * 99 // 100]:.3f}"),
        ("worst", f"{1e3 * tokens[-1]:.2f}"),
    ]
    return markdown_table(("figure", f"{found.schemas} schemas"), rows)


def report(found: Measurement, listed: bool, slowest: bool) -> Iterator[str]:
    """Yield lines about what was refused, and about the instances that were judged wrongly."""
    reasons = defaultdict(list)
    for name, message in found.refused:
        reasons[keyword_of(message)].append((name, message))
    yield "refused for: " + ", ".join(
        f"{keyword} {count}" for keyword, count in Counter({k: len(v) for k, v in reasons.items()}).most_common()
    )
    if listed:
        for keyword, refusals in sorted(reasons.items(), key=lambda item: -len(item[1])):
            yield from (f"refused\t{keyword}\t{name}\t{message}" for name, message in refusals)
    if slowest:
        for what, seconds in {"to build": found.build_seconds, "to match a token": found.slowest_tokens}.items():
            slowest = sorted(seconds, reverse=True)[:_SHOWN]
            yield from (f"CPU-ms {what}\t{1e3 * value:.1f}\t{name}" for value, name in slowest)
    for title, items in {
        "crashed": found.crashed,
        "an invalid instance matches": found.possible,
        "a valid instance does not": found.impossible,
        "matches with one kind of separators alone": found.differing,
    }.items():
        yield from (f"{title}: {name}\t{text[:400]}" for name, text in (items if listed else items[:_SHOWN]))
    if found.barren:
        yield f"none of the valid instances matches: {', '.join(found.barren)}"


def _share(count: int, total: int) -> str:
    return f"{count} of {total} = {100 * count / max(1, total):.1f} %"


def _mark(text: str, end: int) -> str:
    """Return the text around the place where it was refused."""
    return f"…{text[max(0, end - 60) : end]} >>> {text[end : end + 40] or 'the end'}"


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", metavar="NAME", help="schemas whose names contain this")
    parser.add_argument("--list", action="store_true", help="print every refusal, and every wrong judgement")
    parser.add_argument("--seconds", action="store_true", help="print the slowest schemas")
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="a folder with tokenizer.json")
    args = parser.parse_args()
    found = measure(read_cases(args.file, args.only), by_tokenizer(args.tokenizer) if args.tokenizer else list)
    if not found.schemas:
        raise SystemExit(f"{args.file} has no schema whose name contains {args.only!r}")
    print(table(found, "token" if args.tokenizer else "character"))
    print(*report(found, args.list, args.seconds), sep="\n")


if __name__ == "__main__":
    main()
