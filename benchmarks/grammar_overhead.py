"""What a grammar costs while decoding: free and constrained replies of as many tokens, alternating in one run.

    python benchmarks/grammar_overhead.py FOLDER [--new-tokens 64] [--runs 7] [--json]

Each grammar leaves room for more tokens than are asked for. Weights may be random: what is measured is the time a token
takes, not what it says. A folder with GLM-4's own vocabulary (151,552 ids to mask) is the honest case.
"""

import argparse
import json
import statistics
from dataclasses import asdict
from pathlib import Path

from edge import JsonObject, JsonSchema, ModelFolder, Regex, Sampling
from edge.bench import Summary, random_prompt
from runtime.backends.backend import Backend, Options, Request
from runtime.backends.openvino.batched import OpenVINO
from runtime.grammar import Grammar

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
    "tool arguments": JsonSchema.of(TOOL),
    "list of integers": JsonSchema.of(LIST),
    "JSON object": JsonObject(),
    "pattern": Regex(r"[a-z ]{2000,}"),
}


def measure_decode(backend: Backend, prompt: str, grammar: Grammar | None, new_tokens: int) -> float:
    """Tokens a second after the first; 0 where the reply ended early."""
    request = Request((prompt,), (), Sampling(max_new_tokens=new_tokens, temperature=1.0, seed=7), grammar)
    *_, finish = backend.generate(request)
    usage = finish.usage  # type: ignore[union-attr]
    return (
        (usage.completion_tokens - 1) / (usage.seconds - usage.ttft) if usage.completion_tokens == new_tokens else 0.0
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--new-tokens", type=int, default=64)
    arguments.add_argument("--runs", type=int, default=7)
    arguments.add_argument("--json", action="store_true")
    args = arguments.parse_args()
    backend = OpenVINO.load(ModelFolder.open(args.folder), "CPU", Options())
    results = {}
    for name, grammar in GRAMMARS.items():
        free, held = [], []
        for seed in range(-1, args.runs):  # the first warms up, and compiles the grammar
            prompt = random_prompt(backend, 64, seed)
            pair = {}
            for side in (None, grammar) if seed % 2 else (grammar, None):
                pair[side is None] = measure_decode(backend, prompt, side, args.new_tokens)
            if seed >= 0 and all(pair.values()):
                free.append(pair[True])
                held.append(pair[False])
        if not free:
            raise SystemExit(f"{name}: every reply ended before {args.new_tokens} tokens; ask for fewer")
        cost = statistics.median(a / b - 1 for a, b in zip(free, held, strict=True))
        results[name] = {
            "pairs": len(free),
            "free": asdict(Summary.of(free)),
            "held": asdict(Summary.of(held)),
            "cost": cost,
        }
        if not args.json:
            print(
                f"{name:18} free {statistics.median(free):7.1f} tokens/s, held {statistics.median(held):7.1f}: "
                f"{100 * cost:+.1f} % time a token (median of {len(free)} pairs)"
            )
    if args.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
