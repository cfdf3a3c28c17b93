"""OpenVINO's products of int4 matrices, the kernel of `edge kernel`, and llama.cpp beside them.

    edge kernel
    python -m benchmarks.int4_kernel FOLDER [--threads 2] [--rounds 3] [--llama-bench FILE --gguf FILE]
    python -m benchmarks.int4_kernel FOLDER --drafts
    taskset -c 0 python -m benchmarks.int4_kernel FOLDER --products

Each run is a new process; the sides alternate. `load` is the time from the process's first line to a first token, with
the file in the system's cache; the prompt has 512 random tokens, and the reply 32, whose median counts. Memory is
anonymous memory at the end. llama-bench writes its 32 tokens after an empty prompt.

`--drafts` measures steps of prompt lookup with the kernel, in steps of a single token. `--products` measures the kernel
alone, on one matrix of GLM-4-9B's gate and up projections (56 MB), beside the rate at which numpy reads 1 GiB.
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
DRAFTED = (1, 2, 4, 6)


def run(folder: Path, threads: int, kernel: bool, lookup: int = 0) -> dict[str, float]:
    """Load the model in this process, and return what was measured. `lookup` is the number of drafted tokens."""
    start = time.perf_counter()
    from runtime.backends.backend import Options, Request
    from runtime.backends.openvino.batched import OpenVINO
    from runtime.folder.model_folder import ModelFolder
    from runtime.sampling import SamplingParams

    options = Options(threads=threads, int4_kernel=kernel, lookup=lookup, verify=False)
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


def measure_products(rounds: int) -> None:
    """Print the time of one product by the number of rows of activations, in this process's threads."""
    from runtime.backends.openvino.int4.library import GROUP, INSTRUCTIONS, find_instructions, find_library, multiply

    library = find_library()
    assert library is not None, "edge kernel"
    instructions = next(number for number, name in INSTRUCTIONS.items() if name == find_instructions(library))
    random = np.random.default_rng(1)
    weights = random.integers(0, 256, (27392, 2048), dtype=np.uint8)
    scales = random.uniform(0.01, 0.02, (27392, 4096 // GROUP)).astype(np.float16)
    rows = []
    for count in (1, 2, 3, 5, 8, 16, 512):
        activations = random.standard_normal((count, 4096)).astype(np.float32)
        seconds = []
        for _ in range(10 * rounds if count < 16 else rounds):
            start = time.perf_counter()
            multiply(library, instructions, activations, weights, scales)
            seconds.append(time.perf_counter() - start)
        best = min(seconds)
        rate = f"{(weights.nbytes + scales.nbytes) / best / 1e9:.1f}"
        rows.append([str(count), f"{best * 1e3:.2f}", rate, f"{4 * count * weights.size / best / 1e9:.0f}"])
    print(markdown_table(["rows", "least ms", "GB/s of weights", "GOP/s"], rows))
    large = np.ones(2**27)
    start = time.perf_counter()
    large.max()
    print(f"numpy reads {large.nbytes / (time.perf_counter() - start) / 1e9:.1f} GB/s in one thread")


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
    parser.add_argument("--drafts", action="store_true")
    parser.add_argument("--products", action="store_true")
    parser.add_argument("--one", choices=("kernel", "stock"), help=argparse.SUPPRESS)
    parser.add_argument("--lookup", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run(args.folder, args.threads, args.one == "kernel", args.lookup)))
        return
    if args.products:
        measure_products(args.rounds)
        return
    found: dict[str, list[dict[str, float]]] = {}

    def measure(side: str, lookup: int = 0) -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks.int4_kernel", args.folder, "--one", side, "--lookup", str(lookup)]
        done = subprocess.run([*command, "--threads", str(args.threads)], capture_output=True, check=True, text=True)
        measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return measured

    if args.drafts:
        steps = {count: [measure("kernel", count)["decode"] for _ in range(args.rounds)] for count in (0, *DRAFTED)}
        alone = statistics.median(steps.pop(0))
        costs = [[str(count), f"{alone / statistics.median(rates):.2f}"] for count, rates in steps.items()]
        print(markdown_table(["drafted tokens", "cost of a step"], costs))
        return
    for _ in range(args.rounds):
        for side in ("stock", "kernel"):
            found.setdefault(side, []).append(measure(side))
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
