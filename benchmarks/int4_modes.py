"""Symmetric against asymmetric int4: fidelity and speed on one checkpoint, alternating in one run.

    python -m benchmarks.int4_modes CHECKPOINT [--runs 9] [--json]

Fidelity is what the conversion's verification measures in f32: KL divergence from the checkpoint in nats a token, and
top-1 agreement. Speed is that of the CPU with default properties: prefill of 512 tokens, decode of 64.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from convert.pipeline import convert
from convert.recipe import RECIPES
from edge.bench import random_prompt
from runtime.backends.backend import Delta, Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.folder.model_folder import ModelFolder
from runtime.sampling import SamplingParams

MODES = ("int4_sym", "int4_asym")


@dataclass(frozen=True)
class ModeRow:
    """A mode's figures: `prefill` and `decode` in tokens per second."""

    mode: str
    megabytes: float
    mean_kl: float
    top1: float
    prefill: float
    decode: float


def speed(backend: OpenVINO, seed: int, tokens: int = 512, new: int = 64) -> tuple[float, float]:
    """Return the tokens per second of prefill and of decode."""
    prompt = random_prompt(backend, tokens, seed)
    count = backend.count_tokens((prompt,))
    start, times = time.perf_counter(), []
    for part in backend.generate(Request((prompt,), (), SamplingParams(max_new_tokens=new))):
        if isinstance(part, Delta):
            times += [time.perf_counter()] * part.tokens
    return count / (times[0] - start), (len(times) - 1) / (times[-1] - times[0])


def main() -> None:
    """Run the benchmark that the command line describes."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("checkpoint", type=Path)
    arguments.add_argument("--runs", type=int, default=9)
    arguments.add_argument("--json", action="store_true")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        folders = {}
        for mode in MODES:
            for _ in convert(args.checkpoint, Path(scratch) / mode, replace(RECIPES["int4"], linear=mode, max_kl=99.0)):
                pass
            folders[mode] = ModelFolder.open(Path(scratch) / mode)
        rows = measure(folders, args.runs)
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        print(
            f"{row.mode:10} {row.megabytes:9.1f} MB   KL {row.mean_kl:.4f}   top-1 {row.top1:.3f}"
            f"   prefill {row.prefill:8.1f} tokens/s   decode {row.decode:7.1f} tokens/s"
        )
    print(f"decode, symmetric over asymmetric: {rows[0].decode / rows[1].decode:.3f}")


def measure(folders: dict[str, ModelFolder], runs: int) -> list[ModeRow]:
    backends = {mode: OpenVINO.load(folder, "CPU", Options()) for mode, folder in folders.items()}
    speeds: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
    for seed in range(-1, runs):  # the first is a warm-up
        for mode in MODES if seed % 2 else MODES[::-1]:
            measured = speed(backends[mode], seed)
            if seed >= 0:
                speeds[mode].append(measured)
    rows = []
    for mode, folder in folders.items():
        prefill, decode = (statistics.median(values) for values in zip(*speeds[mode], strict=True))
        figures = folder.manifest.verification
        rows.append(ModeRow(mode, folder.size / 1e6, figures["mean_kl"], figures["top1"], prefill, decode))
    return rows


if __name__ == "__main__":
    main()
