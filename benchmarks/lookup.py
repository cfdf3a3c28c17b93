"""The benefit of prompt lookup: the tokens that a step yields, and the cost of a step of several tokens.

    python -m benchmarks.lookup FOLDER [--lookup 2 4 8] [--count 200] [--threads 1]

Tokens are counted in greedy replies of the embedded checkpoint to its held-out dialogues, by kind, since random weights
quote nothing. The cost is measured on FOLDER, of full width: CPU milliseconds of a step after 256 tokens, including the
head, with alternating lengths. The quotient is the speed-up of such replies.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.demo_checkpoint import to_task
from convert.check import cpu_plugin as engine
from convert.pipeline import convert
from edge.demo import CHECKPOINT
from edge.demo.training.dialogues import held_out
from edge.evaluation.tool_calls import ToolCallTask, score
from runtime.backends.backend import Delta, Options, Request
from runtime.backends.openvino.batched import OpenVINO
from runtime.events import Finish
from runtime.folder.model_folder import ModelFolder
from runtime.model import Model

from .peers_report import format_spread, markdown_table

_PAST, _ROUNDS = 256, 12


class CountingBackend:
    """A backend that counts the decoding steps after each reply's first token, and their tokens."""

    def __init__(self, backend: OpenVINO) -> None:
        self._backend = backend
        self.max_prompt_tokens = backend.max_prompt_tokens
        self.count_tokens, self.close = backend.count_tokens, backend.close
        self.tokens = self.steps = 0

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        """Generate with the backend, and count."""
        first = True
        for part in self._backend.generate(request):
            if isinstance(part, Delta) and not first:
                self.steps += 1
                self.tokens += part.tokens
            first = False
            yield part


def tokens_per_step(folder: ModelFolder, tasks: Sequence[ToolCallTask], lookup: int) -> dict[str, float]:
    """Return the mean tokens of a decoding step by kind of task, and over all of them."""
    by_kind = defaultdict(list)
    for task in tasks:
        by_kind[task.kind].append(task)
    backend = CountingBackend(OpenVINO.load(folder, "CPU", Options(lookup=lookup)))
    found, total = {}, Counter[str]()
    with Model(folder, backend=backend) as model:
        for kind, some in by_kind.items():
            backend.tokens = backend.steps = 0
            score(model, some)
            found[kind] = backend.tokens / backend.steps
            total.update(tokens=backend.tokens, steps=backend.steps)
    return found | {"all": total["tokens"] / total["steps"]}


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
    parser.add_argument("--lookup", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--count", type=int, default=200, help="held-out dialogues")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    tasks = list(map(to_task, held_out(count=args.count)))
    costs = step_costs(args.folder, [1, *(1 + lookup for lookup in args.lookup)], args.threads)
    one = statistics.median(costs[1])
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for _ in convert(CHECKPOINT, demo := Path(scratch) / "demo", "int4"):
            pass
        for lookup in args.lookup:
            tokens = tokens_per_step(ModelFolder.open(demo), tasks, lookup)
            cost = statistics.median(costs[1 + lookup]) / one
            for kind, rate in tokens.items():
                rows.append([str(lookup), kind, f"{rate:.2f}", f"{cost:.2f}", f"{rate / cost:.2f}"])
    print(f"A step of one token takes {format_spread(costs[1], 1e3)} CPU ms.\n")
    print(markdown_table(("lookup", "replies", "tokens a step", "cost of a step", "times faster"), rows))


if __name__ == "__main__":
    main()
