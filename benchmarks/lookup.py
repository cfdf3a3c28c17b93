"""The benefit of prompt lookup: the tokens that a step yields, and the cost of a step of several tokens.

    python -m benchmarks.lookup FOLDER [--count 100] [--clients 16] [--rounds 3] [--threads 1]
    python -m benchmarks.lookup FOLDER --kernel-costs 1.05 1.14 1.45 1.94

The cost is measured on FOLDER, of full width: CPU milliseconds of a step after 256 tokens, including the head, with
alternating lengths. Tokens are counted in greedy replies of the embedded checkpoint to its held-out dialogues, by kind,
since random weights quote nothing; the tokens a second are its own, without and with lookup in turn. Edited code,
documents and texts that quote nothing are replayed with FOLDER's tokenizer. `--kernel-costs` are those of steps that
draft 1, 2, 4 and 6 tokens with the int4 kernel (`python -m benchmarks.int4_kernel FOLDER --drafts`), in place of
OpenVINO's.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.demo_checkpoint import to_task
from convert.check import cpu_plugin as engine
from convert.pipeline import convert
from edge.demo import CHECKPOINT
from edge.demo.training.dialogues import held_out
from edge.evaluation.tool_calls import ToolCallTask, score
from runtime.backends.backend import Delta, Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.events import Finish
from runtime.folder.model_folder import ModelFolder
from runtime.model import Model
from runtime.sampling import SamplingParams

from .int4_kernel import DRAFTED as KERNEL_DRAFTED
from .lookup_replay import replay
from .peers_report import format_spread, markdown_table

_PAST, _ROUNDS = 256, 12
_DRAFTED = (1, 2, 4, 6, 8)  # tokens
_SAMPLING = SamplingParams(max_new_tokens=60)


class CountingBackend:
    """A backend that counts the decoding steps after each reply's first token, their tokens and seconds."""

    def __init__(self, backend: OpenVINO) -> None:
        self._backend = backend
        self.clear()

    def clear(self) -> None:
        """Begin to count anew."""
        self.tokens = self.steps = 0
        self.seconds = 0.0
        self.lengths: Counter[int] = Counter()  # steps by the tokens that they drafted
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        """Generate with the backend, and count."""
        start, text = 0.0, ""
        length = self._backend.drafts.choose(constrained=request.grammar is not None, alone=True)
        try:
            for part in self._backend.generate(request):
                if isinstance(part, Delta):
                    text += part.text
                    if start:
                        self.steps += 1
                        self.tokens += part.tokens
                        self.lengths[length] += 1
                    start = start or time.perf_counter()
                yield part
        finally:
            self.seconds += time.perf_counter() - start if start else 0.0
            self.texts.append(text)


def compare_replies(
    folder: ModelFolder, tasks: Sequence[ToolCallTask], rounds: int, threads: int, costs: Mapping[int, float]
) -> None:
    """Print the tokens of a step and a second of greedy replies, with and without prompt lookup in turn, and how many
    replies differ."""
    by_kind = defaultdict(list)
    for task in tasks:
        by_kind[task.kind].append(task)
    options = {0: Options(lookup=0, threads=threads), "auto": Options(lookup="auto", running=1, threads=threads)}
    backends = {name: CountingBackend(OpenVINO.load(folder, "CPU", one)) for name, one in options.items()}
    rows = []
    for kind, some in by_kind.items():
        rates: dict[object, list[float]] = {name: [] for name in backends}
        for _ in range(rounds):
            for name, backend in backends.items():
                backend.clear()
                score(Model(folder, backend=backend), some)  # type: ignore[arg-type]
                rates[name].append(backend.tokens / backend.seconds)
        off, auto = backends.values()
        differ = sum(a != b for a, b in zip(off.texts, auto.texts, strict=True))
        times = statistics.median(rates["auto"]) / statistics.median(rates[0])
        wide = auto.tokens / sum(costs[length] * steps for length, steps in auto.lengths.items())
        per_step = auto.tokens / auto.steps
        rows.append([kind, f"{per_step:.2f}", f"{wide:.2f}", f"{times:.2f}", f"{differ} of {len(off.texts)}"])
    for backend in backends.values():
        backend.close()
    print(markdown_table(("replies", "tokens a step", "times faster at full width", "measured here", "differ"), rows))


def compare_clients(folder: ModelFolder, clients: int, rounds: int) -> None:
    """Print the tokens a second of several clients at once: without lookup, as a server would, and as a chat would."""
    options = {
        "off": Options(lookup=0),
        "auto, several replies at once": Options(lookup="auto", running=clients),
        "auto, one reply at a time": Options(lookup="auto", running=1),
    }
    backends = {name: OpenVINO.load(folder, "CPU", one) for name, one in options.items()}
    rates: dict[str, list[float]] = {name: [] for name in backends}
    for _ in range(rounds):
        for name, backend in backends.items():
            rates[name].append(_rate(backend, clients))
    rows = [[name, format_spread(some)] for name, some in rates.items()]
    print(markdown_table((f"{clients} clients", "tokens a second"), rows))


def _rate(backend: OpenVINO, clients: int) -> float:
    requests = [
        Request((f"[gMASK]<sop><|user|>\nSay {number} and tell me about ferries.<|assistant|>",), (), _SAMPLING)
        for number in range(clients)
    ]
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(lambda request: list(backend.generate(request))[-1], requests))
    return sum(one.usage.completion_tokens for one in found) / (time.perf_counter() - start)


def step_costs(folder: Path, lengths: Sequence[int], threads: int) -> dict[int, list[float]]:
    """Return the CPU seconds of decoding steps by their number of tokens."""
    setting = engine.PluginSetting("a chat's", {**engine.AS_DEPLOYED.properties, "INFERENCE_NUM_THREADS": threads})
    loaded, head = engine.CpuPlugin(folder, setting), engine.plugin_head(folder, setting)
    ids = np.random.default_rng(0).integers(0, ModelFolder.open(folder).manifest.sizes.vocab, (_ROUNDS, _PAST))
    found: dict[int, list[float]] = {length: [] for length in lengths}
    for row in ids:
        for length in lengths:
            loaded.hidden_states([row])
            start = time.process_time()
            head(loaded.forward(row[:length], _PAST))
            found[length].append(time.process_time() - start)
    return found


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100, help="held-out dialogues")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kernel-costs", nargs=len(KERNEL_DRAFTED), type=float, help="in steps of a single token")
    args = parser.parse_args()
    if args.kernel_costs:
        costs = dict(zip(KERNEL_DRAFTED, args.kernel_costs, strict=True))
    else:
        seconds = step_costs(args.folder, [1, *(1 + length for length in _DRAFTED)], args.threads)
        costs = {length: statistics.median(seconds[1 + length]) / statistics.median(seconds[1]) for length in _DRAFTED}
        print(f"A step of one token takes {format_spread(seconds[1], 1e3)} CPU ms; with drafts, times that:\n")
        print(markdown_table(list(map(str, costs)), [[f"{cost:.3f}" for cost in costs.values()]]))
    replayed = replay(args.folder, costs, kernel=bool(args.kernel_costs))
    print(markdown_table(("replayed texts", "tokens a step", "times faster"), replayed))
    with tempfile.TemporaryDirectory() as scratch:
        for _ in convert(CHECKPOINT, demo := Path(scratch) / "demo", "int4"):
            pass
        folder = ModelFolder.open(demo)
        tasks = list(map(to_task, held_out(count=args.count)))
        compare_replies(folder, tasks, args.rounds, args.threads, costs)
        compare_clients(folder, args.clients, args.rounds)


if __name__ == "__main__":
    main()
