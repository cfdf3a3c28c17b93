"""Decoding overhead of a grammar: unconstrained and constrained replies of equal length, alternating in one run.

    python benchmarks/grammar_overhead.py FOLDER [--new-tokens 64] [--runs 7] [--json]

Each grammar allows more tokens than are generated. Random weights will do, as only the time per token matters. Use a
folder with GLM-4's own vocabulary: its 151,552 ids are the realistic size of a token mask.
"""

import argparse
import json
import statistics
from dataclasses import asdict
from pathlib import Path

from edge import JsonObject, JsonSchema, ModelFolder, Regex
from edge.bench import Summary, random_prompt
from runtime.backends.backend import Backend, Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.grammar.grammar import Grammar
from runtime.sampling import SamplingParams

TOOL = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2000},
        "days": {"type": "integer"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "days"],
}
LIST = {"type": "array", "items": {"type": "integer"}, "minItems": 500}
GRAMMARS: dict[str, Grammar] = {
    "tool arguments": JsonSchema.from_schema(TOOL),
    "list of integers": JsonSchema.from_schema(LIST),
    "JSON object": JsonObject(),
    "pattern": Regex(r"[a-z ]{2000,}"),
}


def measure_decode(backend: Backend, prompt: str, grammar: Grammar | None, new_tokens: int) -> float:
    """Return the tokens per second after the first; 0 where the reply ended early."""
    request = Request((prompt,), (), SamplingParams(max_new_tokens=new_tokens, temperature=1.0, seed=7), grammar)
    *_, finish = backend.generate(request)
    usage = finish.usage  # type: ignore[union-attr]
    return (
        (usage.completion_tokens - 1) / (usage.seconds - usage.ttft) if usage.completion_tokens == new_tokens else 0.0
    )


def main() -> None:
    """Run the benchmark that the command line describes."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--new-tokens", type=int, default=64)
    arguments.add_argument("--runs", type=int, default=7)
    arguments.add_argument("--json", action="store_true")
    args = arguments.parse_args()
    backend = OpenVINO.load(ModelFolder.open(args.folder), "CPU", Options())
    results = {}
    for name, grammar in GRAMMARS.items():
        free, constrained = [], []
        for seed in range(-1, args.runs):  # the first is a warm-up, and compiles the grammar
            prompt = random_prompt(backend, 64, seed)
            pair = {}
            for side in (None, grammar) if seed % 2 else (grammar, None):
                pair[side is None] = measure_decode(backend, prompt, side, args.new_tokens)
            if seed >= 0 and all(pair.values()):
                free.append(pair[True])
                constrained.append(pair[False])
        if not free:
            raise SystemExit(f"{name}: every reply ended before {args.new_tokens} tokens; use a smaller --new-tokens")
        cost = statistics.median(a / b - 1 for a, b in zip(free, constrained, strict=True))
        results[name] = {
            "pairs": len(free),
            "free": asdict(Summary.of(free)),
            "constrained": asdict(Summary.of(constrained)),
            "cost": cost,
        }
        if not args.json:
            print(
                f"{name:18} free {statistics.median(free):7.1f} tokens/s, "
                f"constrained {statistics.median(constrained):7.1f}: {100 * cost:+.1f} % time a token "
                f"(median of {len(free)} pairs)"
            )
    if args.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
