"""CPU cost of schemas' grammars in the engine: to the first token, and per step.

    python -m benchmarks.schema_cost FOLDER [FILE] [--count 120] [--new-tokens 40]

FILE is as in `benchmarks.schemas`. Of the schemas that are accepted a third are the largest, the others are drawn;
`--count 0` measures all. Each grammar gets a fresh pipeline with one thread, because a pipeline keeps what it has
compiled, and samples its own text; a step is compared with the same step of a reply without a
grammar. Without FILE only fixed schemas are measured, which are known to be expensive.

Use a folder with GLM-4's own vocabulary, as its 151,552 tokens decide the cost. Random weights will do, and one layer
(`python -m benchmarks.make_checkpoint`); with the layers of a full-size model a step's cost can be seen in proportion.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from benchmarks.peers_report import markdown_table
from benchmarks.schemas import read_cases
from runtime.errors import RequestError
from runtime.grammar.json_schema.compiler import compile_schema
from runtime.grammar.printers.ebnf import to_ebnf

_SEED = 3
_SHOWN = 6  # of the dearest
_FEWEST_STEPS = 5  # of a mean
_RUNS = 5  # of what is fixed, each in turn


def optional_strings(count: int, **keywords: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {f"property_{n}": {"type": "string"} for n in range(count)}, **keywords}


def deep_references(depth: int) -> dict[str, Any]:
    """Return a tree whose every node refers twice to the next level."""
    levels: dict[str, Any] = {f"level_{depth}": {"type": "string"}}
    for n in range(depth):
        below = {"$ref": f"#/$defs/level_{n + 1}"}
        properties = {"one": below, "many": {"type": "array", "items": below}}
        levels[f"level_{n}"] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"$defs": levels, "$ref": "#/$defs/level_0"}


_SAFE = {"type": "integer", "minimum": 1 - 2**53, "maximum": 2**53 - 1}
FIXED: dict[str, Any] = {
    "30 optional strings": optional_strings(30),
    "30 optional strings, no others": optional_strings(30, additionalProperties=False),
    "300 optional strings": optional_strings(300),
    "300 optional strings, no others": optional_strings(300, additionalProperties=False),
    "maxLength 2,000": {"type": "string", "maxLength": 2000},
    "two Any": {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]},
    "a $ref tree of 40 levels": deep_references(40),
    "30 integers of up to 53 bits": {"type": "array", "items": _SAFE, "minItems": 30},
    "2,000 constants": {"enum": [f"value {n}" for n in range(2000)]},
    "^[A-Za-z0-9_-]{1,64}$": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    "email": {"type": "string", "format": "email"},
    "uri": {"type": "string", "format": "uri"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GrammarCost:
    """CPU seconds of a grammar in a fresh pipeline."""

    name: str
    first: float  # to the first token
    steps: tuple[float, ...]  # further ones
    estimated: float  # from the tree, before it was compiled
    printing: float
    wide: bool

    def added(self, free: "GrammarCost") -> float:
        """Return the mean of what its steps took more than the same steps of free text. The first ones and those that
        enlarge the KV cache take longer in every reply."""
        return statistics.mean(step - other for step, other in zip(self.steps, free.steps, strict=False))


def measure(folder: Path, name: str, schema: Any, new_tokens: int, seed: int = 0) -> GrammarCost:
    """Measure the grammar of a schema; without a schema, free text."""
    start = time.process_time()
    ebnf = to_ebnf(compile_schema(schema)) if schema is not None else None
    printing = time.process_time() - start
    first, steps = run_engine(folder, ebnf.text if ebnf else None, new_tokens, seed)
    return GrammarCost(name, first, steps, ebnf.seconds if ebnf else 0.0, printing, bool(ebnf and ebnf.wide))


def median(runs: Sequence[GrammarCost]) -> GrammarCost:
    """Return the median of each figure of several runs."""
    steps = zip_longest(*(run.steps for run in runs))  # replies end where they do
    return replace(
        runs[0],
        first=statistics.median(run.first for run in runs),
        steps=tuple(statistics.median(filter(None, step)) for step in steps),
        printing=statistics.median(run.printing for run in runs),
    )


def run_engine(folder: Path, grammar: str | None, new_tokens: int, seed: int) -> tuple[float, tuple[float, ...]]:
    """Return the CPU seconds to the first token, and those of each further step, of a sampled reply."""
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 0
    pipeline = genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", {"INFERENCE_NUM_THREADS": 1})
    config = genai.GenerationConfig(max_new_tokens=new_tokens, apply_chat_template=False, do_sample=True, rng_seed=seed)
    if grammar is None:
        config.ignore_eos = True
    else:
        config.structured_output_config = genai.StructuredOutputConfig(grammar=grammar)
    ids = pipeline.get_tokenizer().encode("hi").input_ids
    times = [time.process_time()]
    handle = pipeline.add_request(1, ids, config)  # as long as it is referenced, the request goes on
    while pipeline.has_non_finished_requests():
        pipeline.step()
        times.append(time.process_time())
    del handle
    first, *steps = (end - begin for begin, end in pairwise(times))
    return first, tuple(steps)


def draw(file: Path, count: int) -> dict[str, Any]:
    """Return the accepted schemas of a file by name: the largest, and others drawn at random."""
    cases = sorted(read_cases(file), key=lambda case: -len(json.dumps(case.schema)))
    largest, others = cases[: count // 3], cases[count // 3 :]
    random.Random(_SEED).shuffle(others)
    drawn: dict[str, Any] = {}
    for case in [*largest, *others]:
        if count and len(drawn) >= count:
            break
        try:
            compile_schema(case.schema)
        except RequestError:
            continue
        drawn[case.name] = case.schema
    return drawn


def cost_table(costs: Iterable[GrammarCost], free: GrammarCost) -> str:
    rows = [
        (
            cost.name,
            f"{cost.first:.3f}",
            f"{cost.estimated:.3f}",
            f"{1e3 * cost.added(free):+.2f}" if len(cost.steps) >= _FEWEST_STEPS else "–",
            f"{1e3 * max(cost.steps, default=0):.1f}",
            f"{cost.printing:.3f}",
            "yes" if cost.wide else "no",
        )
        for cost in costs
    ]
    columns = ("grammar", "CPU-s to the first token", "estimated to compile", "CPU-ms a step, added", "worst step")
    return markdown_table((*columns, "CPU-s to build and print", "wide"), rows)


def spread_table(costs: Sequence[GrammarCost], free: GrammarCost) -> str:
    steps = [1e3 * cost.added(free) for cost in costs if len(cost.steps) >= _FEWEST_STEPS]
    step = 1e3 * statistics.mean(free.steps)
    figures = {
        "CPU-s to the first token": [cost.first for cost in costs],
        "CPU-ms a step, added": steps,
        "the same, in % of a step without": [100 * added / step for added in steps],
        "CPU-s to build and print": [cost.printing for cost in costs],
        "estimated over measured CPU-s to compile": [
            cost.estimated / max(1e-3, cost.first - free.first) for cost in costs
        ],
    }
    shares = (0.1, 0.5, 0.9, 0.99, 1)
    rows = []
    for name, values in figures.items():
        ordered = sorted(values) or [0.0]
        rows.append([name, *(f"{ordered[min(len(ordered) - 1, int(len(ordered) * share))]:.3f}" for share in shares)])
    return markdown_table((f"{len(costs)} schemas", "10 %", "median", "90 %", "99 %", "worst"), rows)


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=120, help="schemas of FILE; 0 for all")
    parser.add_argument("--new-tokens", type=int, default=40)
    args = parser.parse_args()
    rounds = [
        [
            measure(args.folder, name, schema, args.new_tokens, seed)
            for name, schema in [("no grammar", None), *FIXED.items()]
        ]
        for seed in range(_RUNS)
    ]
    free, *fixed = (median(runs) for runs in zip(*rounds, strict=True))
    step = 1e3 * statistics.mean(free.steps)
    print(f"Without a grammar: {free.first:.3f} CPU-s to the first token, {step:.2f} CPU-ms a step.\n")
    print(cost_table(fixed, free))
    if args.file is None:
        return
    costs, failed = [], []
    for seed, (name, schema) in enumerate(draw(args.file, args.count).items()):
        try:
            costs.append(measure(args.folder, name, schema, args.new_tokens, seed))
        except RuntimeError as exc:  # the engine rejects what was printed
            failed.append(f"{name}: the engine rejects the grammar: {str(exc).strip().splitlines()[-1][:200]}")
    print(spread_table(costs, free))
    long = [cost for cost in costs if len(cost.steps) >= _FEWEST_STEPS]
    dearest = (
        sorted(costs, key=lambda cost: -cost.first)[:_SHOWN] + sorted(long, key=lambda cost: -cost.added(free))[:_SHOWN]
    )
    print(cost_table(dict.fromkeys(dearest), free))
    print(*failed, sep="\n")


if __name__ == "__main__":
    main()
