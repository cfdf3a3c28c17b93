"""The effect of recipes and CPU plugin properties on OpenVINO's decode rate.

    python -m benchmarks.decode FOLDER … [--rounds 3] [--threads 1]

The first folder is measured with the default properties and with each property in turn; the others with the defaults.
Each run is a new process of bare OpenVINO GenAI, and the variants alternate. On a machine that does other work, compare
CPU milliseconds per token with one thread. Ratios are over the first folder with the default properties.

ONEDNN_MAX_CPU_ISA cannot emulate a CPU with only AVX2 on one with AVX-512: OpenVINO 2026.4.1 then skips the work, and
GenAI fails with `m_ptr != nullptr`.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from .peers import Contender, TokenCounter, alternate, measure_speed
from .peers_report import PROMPTS, EngineSpeed, format_spread, markdown_table

PROPERTIES: dict[str, dict[str, Any]] = {
    "f32": {"INFERENCE_PRECISION_HINT": "f32"},
    "no int8 activations": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0},
    "int8 activations in groups of 64": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 64},
    "int8 activations in groups of 128": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 128},
    "KV cache u4": {"KV_CACHE_PRECISION": "u4"},
    "KV cache f16": {"KV_CACHE_PRECISION": "f16"},
}


def contenders(folders: list[Path]) -> Iterator[Contender]:
    """Yield the variants to compare, the baseline first."""
    first, *others = folders
    yield Contender(first.name, sys.executable, "genai", first)
    for folder in others:
        yield Contender(folder.name, sys.executable, "genai", folder)
    for name, properties in PROPERTIES.items():
        yield Contender(f"{first.name}, {name}", sys.executable, "genai", first, properties=json.dumps(properties))


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="model folders of one checkpoint")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--only", help="only the first variant, and those whose names contain this")
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.folders[0] / "tokenizer.json"))
    tokens = TokenCounter(lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids))
    chosen = [
        side for i, side in enumerate(contenders(args.folders)) if not i or not args.only or args.only in side.name
    ]
    print(f"load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    found = alternate(
        chosen,
        args.rounds,
        lambda side, seed: measure_speed(side, tokens, seed, args.new_tokens, args.threads, prompts=PROMPTS[:2]),
    )
    print(f"load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    print(report(found))


def report(found: dict[str, list[EngineSpeed]]) -> str:
    """Return a Markdown table of the variants, and their ratios over the first."""
    base = next(iter(found.values()))
    rows = []
    for name, speeds in found.items():
        ratios = [
            statistics.median(getattr(one, key)[i] for one in speeds)
            / statistics.median(getattr(one, key)[i] for one in base)
            for key, i in (("token_cpu", 0), ("ttft_cpu", 1))
        ]
        rows.append(
            [
                name,
                format_spread([one.token_cpu[0] for one in speeds], 1e3),
                f"{ratios[0]:.2f}",
                format_spread([one.ttft_cpu[1] for one in speeds], digits=2),
                f"{ratios[1]:.2f}",
                format_spread([one.decode[0] for one in speeds]),
                format_spread([one.anonymous for one in speeds], 1e-6, 0),
            ]
        )
    headings = ("setting", "CPU ms a token", "ratio", "CPU s for 512 tokens", "ratio", "tokens/s", "peak anonymous MB")
    return markdown_table(headings, rows)


if __name__ == "__main__":
    main()
