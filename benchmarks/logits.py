"""The cost of the settings that need logits: `top_logprobs`, `logit_bias`, `frequency_penalty`, `prompt_logprobs`.

    python -m benchmarks.logits FOLDER [--tokens 64] [--prompt 256] [--threads 2]

OpenVINO's engine compiles the model a second time for them (runtime/backends/openvino/logits/model.py): seconds of the
first such request beyond those of the next, anonymous memory of the engine's process before and after, tokens a second
of a reply with and without, and of a prompt whose log-probabilities are asked for. The IR has random or real weights.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.backends.backend import Options
from runtime.backends.openvino.process.backend import SubprocessBackend
from runtime.events import Usage
from runtime.folder.model_folder import ModelFolder
from runtime.model import Model
from runtime.reply.reply import Reply

from .process import anonymous_memory

_ROUNDS = 3


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    folder = ModelFolder.open(args.folder)
    backend = SubprocessBackend.load(folder, "CPU", Options(threads=args.threads))
    with Model(folder, backend=backend) as model:
        ids = [100 + i % 1000 for i in range(args.prompt)]

        def run(first: int = 0, **settings: Any) -> Usage:
            limit = settings.pop("limit", args.tokens)
            events = model.complete([first, *ids], ignore_eos=True, temperature=0, max_tokens=limit, **settings)
            return Reply.from_events(events).usage

        run(1)
        before = anonymous_memory(backend.pid)
        start = time.perf_counter()
        run(2, top_logprobs=1)
        first = time.perf_counter() - start
        after = anonymous_memory(backend.pid)
        rates = {
            "plain": _decode(run),
            "logprobs": _decode(lambda i: run(i, logprobs=True)),
            "top_logprobs": _decode(lambda i: run(i, top_logprobs=5)),
            "frequency_penalty": _decode(lambda i: run(i, frequency_penalty=0.5)),
        }
        start = time.perf_counter()
        run(3, top_logprobs=1)
        again = time.perf_counter() - start
        scoring = {"prompt_logprobs": True, "top_logprobs": 1, "limit": 0}
        scored = [_seconds(run, i, **scoring) for i in range(10, 10 + _ROUNDS)]
        read = [_seconds(run, i, limit=1) for i in range(10, 10 + _ROUNDS)]
    print(f"second copy of the model: {first - again:.1f} s, {(after - before) / 2**20:.0f} MB")
    for name, rate in rates.items():
        print(f"{name}: {rate:.1f} tokens/s")
    for name, seconds in (("prompt with log-probabilities", scored), ("prompt", read)):
        print(f"{name}: {(args.prompt + 1) / statistics.median(seconds):.0f} tokens/s")


def _decode(run: Callable[[int], Usage]) -> float:
    """Return the median tokens a second after the first."""
    usages = [run(i) for i in range(20, 20 + _ROUNDS)]
    return statistics.median((usage.completion_tokens - 1) / (usage.seconds - usage.ttft) for usage in usages)


def _seconds(run: Callable[..., Usage], first: int, **settings: Any) -> float:
    start = time.perf_counter()
    run(first, **settings)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
