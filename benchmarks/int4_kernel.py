"""OpenVINO's products of int4 matrices, the kernel of `edge kernel`, and llama.cpp beside them.

    edge kernel
    python -m benchmarks.int4_kernel FOLDER [--threads 2] [--rounds 3] [--llama-bench FILE --gguf FILE [FILE]]
    python -m benchmarks.int4_kernel FOLDER --prompt 8192 --sides kernel llama.cpp --llama-bench FILE --gguf FILE
    python -m benchmarks.int4_kernel FOLDER --drafts
    taskset -c 0 python -m benchmarks.int4_kernel FOLDER --products

Each run is a new process; the sides alternate, and each round begins with another one. `load` is the time from the
process's first line to a first token, with the file in the system's cache. The prompt has `--prompt` random tokens, and
the reply that follows it `--reply`, whose median counts; llama-bench writes as many at the same depth, and tells their
mean. Memory is anonymous memory at the end. `GB/s` are the bytes of the matrices that a token reads times the tokens a
second; the memory's own rate, of as many threads, stands below. `--busy` runs so many other processes all the time.

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
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .peers import measure_bandwidth
from .peers_report import format_spread, markdown_table
from .process import anonymous_memory

DRAFTED = (1, 2, 4, 6)
LLAMA = "llama.cpp"
SIDES = {"stock": "OpenVINO", "kernel": "the kernel", LLAMA: LLAMA}
DIGITS = {"load": 1, "prefill": 1, "decode": 2, "rate": 1, "memory": 0}


def run(folder: Path, threads: int, prompt: int, reply: int, *, kernel: bool, lookup: int = 0) -> dict[str, float]:
    """Load the model in this process, and return what was measured. `lookup` is the number of drafted tokens."""
    start = time.perf_counter()
    from runtime.backends.backend import Options, Request
    from runtime.backends.openvino.paged.batched import OpenVINO
    from runtime.folder.model_folder import ModelFolder
    from runtime.sampling import SamplingParams

    options = Options(threads=threads, int4_kernel=kernel, lookup=lookup, verify=False)
    opened = ModelFolder.open(folder)
    with closing(OpenVINO.load(opened, "CPU", options)) as backend:
        load = time.perf_counter() - start
        random = np.random.default_rng(1)
        words = " ".join(str(number) for number in random.integers(0, 10**6, prompt))
        ids = backend.encode((words,))[:prompt]
        sampling = SamplingParams(max_new_tokens=reply, temperature=0.0)
        running = backend.begin(Request((words,), (), sampling), ids)
        ends = [time.perf_counter()]
        while not running.finished:
            while not running.can_read():
                backend.step()
            list(running.read())
            ends.append(time.perf_counter())
        steps = [after - before for before, after in pairwise(ends)]
        found = {"load": load, "prefill": len(ids) / steps[0], "memory": anonymous_memory() / 1e6}
        sizes = opened.manifest.sizes
        assert sizes is not None
        return found | _reply_rate(steps[1:], sizes.weights - sizes.embedding_bytes)


def _reply_rate(steps: list[float], nbytes: int) -> dict[str, float]:
    if not steps:
        return {}
    decode = 1 / statistics.median(steps)
    return {"decode": decode, "rate": decode * nbytes / 1e9}


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
    for count in (1, 2, 3, 5, 8, 9, 16, 32, 512):
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
    print(f"numpy reads {measure_bandwidth(1) / 1e9:.1f} GB/s in one thread")


def run_llama(program: Path, gguf: Path, threads: int, prompt: int, reply: int) -> dict[str, float]:
    """Return what llama-bench measures: the prompt, and a reply after it."""
    command = [program, "-m", gguf, "-t", str(threads), "-r", "1", "-o", "json"]

    def measure(*arguments: str) -> float:
        done = subprocess.run([*command, *arguments], capture_output=True, check=True, text=True)
        (found,) = json.loads(done.stdout)
        return float(found["avg_ts"])

    # A warm-up would read the whole prompt.
    found = {"prefill": measure("-p", str(prompt), "-n", "0", *(["--no-warmup"] if prompt > 512 else []))}
    if reply > 1:
        found["decode"] = measure("-p", "0", "-n", str(reply), "-d", str(prompt))
        found["rate"] = found["decode"] * read_bytes(gguf) / 1e9
    return found


def read_bytes(gguf: Path) -> int:
    """Return the bytes of a GGUF's tensors that each token reads: all but the embedding."""
    from gguf import GGUFReader

    return sum(int(tensor.n_bytes) for tensor in GGUFReader(gguf).tensors if tensor.name != "token_embd.weight")


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Run so many processes that compute without end beside what runs within the block."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=512, help="tokens")
    parser.add_argument("--reply", type=int, default=32, help="tokens; 1: the prompt alone")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside (none)")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--llama-bench", type=Path)
    parser.add_argument("--gguf", type=Path, nargs="+", default=[])
    parser.add_argument("--drafts", action="store_true")
    parser.add_argument("--products", action="store_true")
    parser.add_argument("--one", choices=("kernel", "stock"), help=argparse.SUPPRESS)
    parser.add_argument("--lookup", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kernel = args.one == "kernel"
        print(json.dumps(run(args.folder, args.threads, args.prompt, args.reply, kernel=kernel, lookup=args.lookup)))
    elif args.products:
        measure_products(args.rounds)
    elif args.drafts:
        measure_drafts(args)
    else:
        compare(args)


def run_apart(args: argparse.Namespace, side: str, lookup: int = 0) -> dict[str, float]:
    """Return what `run` measures in a new process."""
    numbers = {"--threads": args.threads, "--prompt": args.prompt, "--reply": args.reply, "--lookup": lookup}
    options = [str(word) for pair in numbers.items() for word in pair]
    command = [sys.executable, "-m", "benchmarks.int4_kernel", args.folder, "--one", side, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure_drafts(args: argparse.Namespace) -> None:
    """Print what a step of prompt lookup costs by the number of drafted tokens."""
    counts = (0, *DRAFTED)
    steps = {count: [run_apart(args, "kernel", count)["decode"] for _ in range(args.rounds)] for count in counts}
    alone = statistics.median(steps.pop(0))
    costs = [[str(count), f"{alone / statistics.median(rates):.2f}"] for count, rates in steps.items()]
    print(markdown_table(["drafted tokens", "cost of a step"], costs))


def compare(args: argparse.Namespace) -> None:
    """Print the sides' figures, and how the kernel's compare with llama.cpp's."""
    names = [side for side in args.sides if side != LLAMA]
    if LLAMA in args.sides and args.llama_bench:
        names += [f"{LLAMA} {file.stem}" for file in args.gguf]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    bandwidth = measure_bandwidth(args.threads)
    with busy(args.busy):
        for number in range(args.rounds):
            for i in range(len(names)):
                name = names[(i + number) % len(names)]
                if name in SIDES:
                    measured = run_apart(args, name)
                else:
                    file = next(file for file in args.gguf if name.endswith(file.stem))
                    measured = run_llama(args.llama_bench, file, args.threads, args.prompt, args.reply)
                found[name].append(measured)
                print(f"{number + 1}/{args.rounds} {name}: {measured}", file=sys.stderr, flush=True)
        load = os.getloadavg()[0]
    bandwidth = max(bandwidth, measure_bandwidth(args.threads))
    titles = ["load, s", f"prompt of {args.prompt}, tokens/s", "reply, tokens/s", "GB/s", "memory, MB"]
    rows = [[SIDES.get(name, name), *_cells(runs)] for name, runs in found.items()]
    print(markdown_table([f"{args.threads} threads", *titles], rows))
    print(f"memory reads {bandwidth / 1e9:.1f} GB/s in {args.threads} threads; load average {load:.1f}")
    for name in names:
        if name not in SIDES and "kernel" in found:
            for key, what in (("prefill", "prompt"), ("decode", "reply")):
                if key in found[name][0]:
                    print(f"the kernel over {name}, {what}: {_ratio(found['kernel'], found[name], key):.2f}")


def _cells(runs: list[dict[str, Any]]) -> list[str]:
    return [
        format_spread([one[key] for one in runs], digits=digits) if key in runs[0] else ""
        for key, digits in DIGITS.items()
    ]


def _ratio(ours: list[dict[str, float]], theirs: list[dict[str, float]], key: str) -> float:
    return statistics.median(one[key] for one in ours) / statistics.median(one[key] for one in theirs)


if __name__ == "__main__":
    main()
