"""The decode rate with a LoRA adapter at run time, over that without.

    python -m benchmarks.make_adapter FOLDER ADAPTER --rank 16
    python -m benchmarks.adapter_decode FOLDER ADAPTER [--rounds 7]

Both models are loaded, each in a process of its own, and reply in turn: a greedy reply of the same length to the same
prompt in every round, the first of which is not counted. The ratio is that of the medians.
"""

import argparse
import os
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

from runtime.backends.backend import Options
from runtime.events import Finish
from runtime.model import Model

from .peers_report import format_spread, markdown_table

PROMPT = "The museum opens at nine. " * 16


def decode_rate(model: Model, tokens: int) -> float:
    """Return tokens a second after the first."""
    finish = None
    for event in model.complete(PROMPT, temperature=0, max_new_tokens=tokens):
        finish = event
    assert isinstance(finish, Finish)
    usage = finish.usage
    return (usage.completion_tokens - 1) / (usage.seconds - usage.ttft)


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a model folder")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="CPU")
    args = parser.parse_args()
    options = Options(threads=args.threads)
    rates: dict[str, list[float]] = {"without": [], "with the adapter": []}
    print(f"load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    with ExitStack() as opened:
        models = {
            name: opened.enter_context(
                Model(args.folder, device=args.device, options=options, adapter=[args.adapter] if number else [])
            )
            for number, name in enumerate(rates)
        }
        for number in range(args.rounds + 1):
            for name in (list(rates), list(rates)[::-1])[number % 2]:
                rate = decode_rate(models[name], args.new_tokens)
                if number:
                    rates[name].append(rate)
    print(f"load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    base = statistics.median(rates["without"])
    rows = [[name, format_spread(found), f"{statistics.median(found) / base:.3f}"] for name, found in rates.items()]
    print(markdown_table(("model", "decode tokens/s", "ratio"), rows))


if __name__ == "__main__":
    main()
