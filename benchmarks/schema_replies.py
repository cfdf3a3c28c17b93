"""Replies of a model under the schemas of a file: are they complete and valid, and how often are they cut?

    python -m benchmarks.schema_replies FOLDER FILE [--count 300] [--new-tokens 1000] [--max-length 20]

FILE is as in `benchmarks.schemas`; of its accepted schemas some are drawn. FOLDER is a model folder, such as `edge
demo` converts. Each schema becomes the answer's grammar of one sampled reply. A complete reply has to be valid by the
jsonschema package; one that reaches the token limit is counted as incomplete. A weak model may write a string without
end: `--max-length` limits the strings for which a schema has no limit, and makes cuts frequent.

A reply is cut where it leaves its grammar, and continued by another request under the grammar of what remains. For each
cut, the table has the tokens that this request reads again because they are not in the prefix cache, and the CPU
seconds to its first token.
"""

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema

from benchmarks.peers_report import markdown_table
from benchmarks.schemas import SchemaCase, read_cases
from runtime.backends.backend import Delta, Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.errors import EdgeError
from runtime.events import Finish, Text
from runtime.folder.model_folder import ModelFolder
from runtime.grammar.grammar import JsonSchema
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.model import Model

_SEED = 8
_QUESTION = "Give me an example, as JSON."
_SHOWN = 20


@dataclass(slots=True)
class EngineRequest:
    """A request as the engine got it: the tokens to read that were not cached, and the reply so far."""

    uncached: int
    text_before: str
    seconds: float = 0.0  # CPU, to the first token


class RecordingEngine(OpenVINO):
    """An engine that records the requests of the reply that is generated."""

    requests: list[EngineRequest]

    def begin(self, request: Request, ids: list[int] | None = None, start: float = 0.0) -> Any:
        running = super().begin(request, ids, start)
        text = self.decoder().feed(request.generated)
        self.requests.append(EngineRequest(len(running.ids) - running.cached_tokens, text))
        return running

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        start, first = time.process_time(), True
        for part in super().generate(request):
            if first:
                self.requests[-1].seconds = time.process_time() - start
            first = False
            yield part


@dataclass(slots=True)
class Measurement:
    """The replies, and their cuts."""

    outcomes: Counter[str] = field(default_factory=Counter)
    cuts: list[int] = field(default_factory=list)  # of each reply
    uncached: list[int] = field(default_factory=list)  # tokens, of each cut
    seconds: list[float] = field(default_factory=list)  # of each cut
    without_progress: int = 0
    tokens: int = 0
    failures: list[str] = field(default_factory=list)


def draw(file: Path, count: int, only: str) -> list[SchemaCase]:
    """Return schemas of a file that are accepted, drawn at random."""
    cases, drawn = list(read_cases(file, only)), []
    random.Random(_SEED).shuffle(cases)
    for case in cases:
        if len(drawn) == count:
            break
        try:
            compile_schema(case.schema)
        except EdgeError:
            continue
        drawn.append(case)
    return drawn


def limit_strings(schema: Any, length: int) -> Any:
    """Return the schema with a maxLength wherever a string has neither a limit nor a form."""
    if isinstance(schema, list):
        return [limit_strings(item, length) for item in schema]
    if not isinstance(schema, dict):
        return schema
    limited = {
        key: value if key in ("enum", "const", "default", "examples") else limit_strings(value, length)
        for key, value in schema.items()
    }
    if schema.get("type") == "string" and not schema.keys() & {
        "maxLength",
        "minLength",
        "pattern",
        "format",
        "enum",
        "const",
    }:
        limited["maxLength"] = length
    return limited


def measure_reply(found: Measurement, model: Model, engine: RecordingEngine, case: SchemaCase, **sampling: Any) -> None:
    """Generate a reply under a schema, and add what became of it."""
    engine.requests, text, finish = [], "", None
    try:
        for event in model.reply(_QUESTION, answer=JsonSchema(json.dumps(case.schema)), **sampling):
            if isinstance(event, Text):
                text += event.text
            elif isinstance(event, Finish):
                finish = event
    except EdgeError as exc:
        found.outcomes[type(exc).__name__] += 1
        found.failures.append(f"{case.name}: {exc}")
        return
    assert finish is not None
    found.tokens += finish.usage.completion_tokens
    outcome = judge(case.schema, text) if finish.reason == "stop" else "incomplete"
    found.outcomes[outcome] += 1
    if outcome not in ("valid", "incomplete"):
        found.failures.append(f"{case.name}: {outcome}: {text[:300]}")
    continued = engine.requests[1:]  # none at all where everything is forced
    found.cuts.append(len(continued))
    found.uncached += [request.uncached for request in continued]
    found.seconds += [request.seconds for request in continued]
    texts = [request.text_before for request in engine.requests]
    found.without_progress += sum(after == before for before, after in pairwise(texts))


def judge(schema: Any, text: str) -> str:
    """Return what a complete reply is."""
    try:
        value = json.loads(text)
    except ValueError:
        return "not JSON"
    draft = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return "valid" if draft(schema, format_checker=draft.FORMAT_CHECKER).is_valid(value) else "invalid"


def table(found: Measurement) -> str:
    def spread(values: Sequence[float], digits: int) -> str:
        ordered = sorted(values) or [0.0]
        shown = (statistics.median(ordered), ordered[len(ordered) * 99 // 100], ordered[-1])
        return ", ".join(f"{value:.{digits}f}" for value in shown)

    rows = [
        *((f"replies: {outcome}", str(count)) for outcome, count in found.outcomes.most_common()),
        ("tokens", f"{found.tokens:,}"),
        ("cuts", f"{sum(found.cuts):,}"),
        ("replies that were cut", str(sum(map(bool, found.cuts)))),
        ("cuts of a reply: median, 99 %, most", spread(found.cuts, 0)),
        ("tokens that a cut reads again: median, 99 %, most", spread(found.uncached, 0)),
        ("CPU-s to the first token after a cut: median, 99 %, most", spread(found.seconds, 3)),
        ("cuts without progress", str(found.without_progress)),
    ]
    return markdown_table(("figure", f"{found.outcomes.total()} replies"), rows)


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", metavar="NAME", help="schemas whose names contain this")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--new-tokens", type=int, default=1000)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--max-length", type=int, metavar="N", help="characters of strings without a limit")
    args = parser.parse_args()
    folder, found = ModelFolder.open(args.folder), Measurement()
    engine = RecordingEngine.load(folder, "CPU", Options())
    with Model(folder, backend=engine) as model:
        for seed, case in enumerate(draw(args.file, args.count, args.only)):
            limit = args.max_length
            limited = case if limit is None else replace(case, schema=limit_strings(case.schema, limit))
            settings = {"max_new_tokens": args.new_tokens, "temperature": args.temperature, "seed": seed}
            measure_reply(found, model, engine, limited, **settings)
    print(table(found))
    print(*found.failures[:_SHOWN], sep="\n")


if __name__ == "__main__":
    main()
