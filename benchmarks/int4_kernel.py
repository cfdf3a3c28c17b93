"""OpenVINO's products of int4 matrices, the kernel of `edge kernel`, and llama.cpp beside them.

    edge kernel
    python -m benchmarks.int4_kernel FOLDER [--threads 2] [--rounds 3] [--llama-bench FILE --gguf FILE]

Each run is a new process; the sides alternate. `load` is the time from the process's first line to a first token, with
the file in the system's cache; the prompt has 512 random tokens, and the reply 32, whose median counts. Memory is
anonymous memory at the end. llama-bench writes its 32 tokens after an empty prompt.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np

from .peers_report import format_spread, markdown_table
from .process import anonymous_memory

PROMPT, REPLY = 512, 32


def run(folder: Path, threads: int, kernel: bool) -> dict[str, float]:
    """Load the model in this process, and return what was measured."""
    start = time.perf_counter()
    from runtime.backends.backend import Options, Request
    from runtime.backends.openvino.batched import OpenVINO
    from runtime.folder.model_folder import ModelFolder
    from runtime.sampling import SamplingParams

    options = Options(threads=threads, int4_kernel=kernel, lookup=0, verify=False)
    with closing(OpenVINO.load(ModelFolder.open(folder), "CPU", options)) as backend:
        load = time.perf_counter() - start
        random = np.random.default_rng(1)
        words = " ".join(str(number) for number in random.integers(0, 10**6, PROMPT))
        ids = backend.encode((words,))[:PROMPT]
        sampling = SamplingParams(max_new_tokens=REPLY, temperature=0.0)
        running = backend.begin(Request((words,), (), sampling), ids)
        ends = [time.perf_counter()]
        while not running.finished:
            while not running.can_read():
                backend.step()
            list(running.read())
            ends.append(time.perf_counter())
        steps = [after - before for before, after in pairwise(ends)]
        return {
            "load": load,
            "prefill": len(ids) / steps[0],
            "decode": 1 / statistics.median(steps[1:]),
            "memory": anonymous_memory() / 1e6,
        }


def run_llama(program: Path, gguf: Path, threads: int) -> dict[str, float]:
    """Return what llama-bench measures."""
    command = [program, "-m", gguf, "-p", str(PROMPT), "-n", str(REPLY), "-t", str(threads), "-r", "1", "-o", "json"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return {"prefill" if row["n_prompt"] else "decode": row["avg_ts"] for row in found}


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llama-bench", type=Path)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--one", choices=("kernel", "stock"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run(args.folder, args.threads, args.one == "kernel")))
        return
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for side in ("stock", "kernel"):
            command = [sys.executable, "-m", "benchmarks.int4_kernel", args.folder, "--one", side]
            done = subprocess.run(
                [*command, "--threads", str(args.threads)], capture_output=True, check=True, text=True
            )
            found.setdefault(side, []).append(json.loads(done.stdout.splitlines()[-1]))
        if args.llama_bench:
            found.setdefault("llama.cpp", []).append(run_llama(args.llama_bench, args.gguf, args.threads))
    print(f"load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    titles = {"stock": "OpenVINO", "kernel": "the kernel", "llama.cpp": "llama.cpp"}
    digits = {"load": 1, "prefill": 0, "decode": 2, "memory": 0}
    rows = [
        [
            titles[side],
            *(
                format_spread([one[key] for one in runs], digits=n) if key in runs[0] else ""
                for key, n in digits.items()
            ),
        ]
        for side, runs in found.items()
    ]
    print(
        markdown_table(
            [f"{args.threads} threads", "load, s", "prompt, tokens/s", "reply, tokens/s", "memory, MB"], rows
        )
    )


if __name__ == "__main__":
    main()
