"""The time of a step of a single token after long contexts, by the precision of the KV cache.

    python -m benchmarks.long_decode FOLDER [--past 512 8192 32768 131072] [--kv u8 u4 f16] [--threads 2] [--drafts 0]

The graph gets the paged attention that GenAI gives it, and runs without GenAI: so the cache needs no prompt of that
length. Its first block is computed from random tokens, and all others are copies of it, in memory of their own. What
is in the cache does not change how long it takes to read. `--drafts` tokens more are read in each step, as by prompt
lookup. `--stateful` runs the graph as it is, with contiguous states in place of blocks.

A table has the least of `--rounds` steps. A folder of few layers will do: the last two columns are for a model of
`--layers`. Its step after the first length is that of the folder, times as long as it has more bytes of weights to read
(those of the embedding are not read); from there it grows by what a layer grows. A machine that does other work
disturbs the CPU's time less than the clock's.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openvino as ov
from openvino._offline_transformations import paged_attention_transformation

from convert.graph import decoder_inputs
from runtime.backends.backend import Options
from runtime.backends.openvino.genai import properties
from runtime.backends.openvino.paged.prefix_cache import BLOCK
from runtime.folder.ir_files import DECODER
from runtime.folder.model_folder import ModelFolder
from runtime.system.files import read_model_properties

from .peers_report import markdown_table

Ids = np.ndarray[Any, Any]


class FilledGraph(Protocol):
    """A compiled graph whose cache can be filled at once."""

    def fill(self, past: int) -> None:
        """Make the cache one of `past` tokens."""

    def forward(self, ids: Ids, past: int) -> None:
        """Read the tokens after `past` others."""


def compiled(folder: Path, model: ov.Model, options: Options) -> ov.CompiledModel:
    settings = properties(options, "CPU")
    return ov.Core().compile_model(model, "CPU", settings | read_model_properties(folder / f"{DECODER}.bin"))


class PagedGraph:
    """The graph with paged attention; its cache has room for `tokens`, and equal blocks."""

    def __init__(self, folder: Path, options: Options, tokens: int) -> None:
        model = ov.Core().read_model(folder / f"{DECODER}.xml")
        paged_attention_transformation(model, False, False, False)
        model = compiled(folder, model, options)
        self._request = model.create_infer_request()
        blocks = -(-tokens // BLOCK)
        caches = []
        for port in model.inputs:
            if "cache." in port.get_any_name():
                shape = [blocks, *(side.get_length() for side in list(port.get_partial_shape())[1:])]
                caches.append(ov.Tensor(port.get_element_type(), shape))
                self._request.set_tensor(port, caches[-1])
        self.vocab = model.output("logits").get_partial_shape()[-1].get_length()
        self.forward(np.arange(BLOCK), 0)
        for cache in caches:  # as long as nothing else is read, all blocks are those of this text
            rows = cache.data.view(np.uint8).reshape(blocks, -1)
            rows[1:] = rows[0]

    def fill(self, past: int) -> None:
        """Nothing to do: the first blocks are as good as any."""

    def forward(self, ids: Ids, past: int) -> None:
        """Read the tokens after `past` others."""
        end = past + len(ids)
        used = -(-end // BLOCK)
        inputs = {
            "input_ids": ids.astype(np.int64),
            "position_ids": np.arange(past, end, dtype=np.int64),
            "past_lens": np.array([past], np.int32),
            "subsequence_begins": np.array([0, len(ids)], np.int32),
            "block_indices": np.arange(used, dtype=np.int32),
            "block_indices_begins": np.array([0, used], np.int32),
            "max_context_len": np.array(end, np.int32),
        }
        for name, value in inputs.items():
            self._request.set_tensor(name, ov.Tensor(value))
        self._request.infer()

    def logits(self, ids: Ids, step: int = BLOCK) -> np.ndarray[Any, Any]:
        """Read a text in steps of so many tokens; return the logits after each token, [T, vocab]."""
        found = np.empty((len(ids), self.vocab), np.float32)
        for first in range(0, len(ids), step):
            self.forward(part := ids[first : first + step], first)
            found[first : first + len(part)] = self._request.get_tensor("logits").data.reshape(len(part), -1)
        return found


class StatefulGraph:
    """The graph as it is, whose states are set to random keys and values."""

    def __init__(self, folder: Path, options: Options, _tokens: int) -> None:
        self._model = compiled(folder, ov.Core().read_model(folder / f"{DECODER}.xml"), options)
        self._request = self._model.create_infer_request()
        self.forward(np.arange(BLOCK), 0)

    def fill(self, past: int) -> None:
        """Set the states to `past` tokens."""
        for state in self._request.query_state():
            _, heads, _, size = state.state.shape
            values = np.random.default_rng(1).standard_normal((1, heads, past, size), dtype=np.float32)
            state.state = ov.Tensor(values)

    def forward(self, ids: Ids, past: int) -> None:
        """Read the tokens after `past` others."""
        self._request.infer(decoder_inputs(self._model, ids, past))


@dataclass(frozen=True, slots=True)
class StepTimes:
    """The least seconds of a step, of the CPU and of the clock."""

    cpu: float
    clock: float


def step_times(graph: FilledGraph, past: int, tokens: int, rounds: int) -> StepTimes:
    """Measure steps of so many tokens, each after the one before."""
    graph.fill(past)
    found = []
    for i in range(rounds + 1):  # the first one compiles
        cpu, clock = time.process_time(), time.perf_counter()
        graph.forward(np.arange(100, 100 + tokens), past + i * tokens)
        found.append((time.process_time() - cpu, time.perf_counter() - clock))
    return StepTimes(*(min(seconds) for seconds in zip(*found[1:], strict=True)))


def read_bytes(folder: ModelFolder, layers: int) -> float:
    """Return the bytes of weights that a step reads, if the model had so many layers."""
    sizes = folder.manifest.sizes
    assert sizes is not None, "the folder is of an earlier version: edge upgrade"
    head = sizes.vocab * sizes.hidden  # in int8, but for the recipe int4-small
    return head + (sizes.weights - sizes.embedding_bytes - head) * layers / sizes.layers


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of an int4 recipe")
    parser.add_argument("--past", type=int, nargs="+", default=[512, 8192, 32768, 131072])
    parser.add_argument("--kv", nargs="+", default=["u8", "u4", "f16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--drafts", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--stateful", action="store_true")
    args = parser.parse_args()
    folder = ModelFolder.open(args.folder)
    here = folder.manifest.sizes.layers if folder.manifest.sizes else 0
    larger = read_bytes(folder, args.layers) / read_bytes(folder, here)
    make: Callable[[Path, Options, int], FilledGraph] = StatefulGraph if args.stateful else PagedGraph
    rows = []
    for kv_precision in args.kv:
        tokens = args.drafts + 1
        options = Options(kv_precision=kv_precision, threads=args.threads)
        graph = make(args.folder, options, max(args.past) + tokens * (args.rounds + 1))
        first = None
        for past in args.past:
            found = step_times(graph, past, tokens, args.rounds)
            first = first or found
            growth = (found.cpu - first.cpu) / here
            whole = larger * first.cpu + args.layers * growth
            milliseconds = (found.cpu, found.clock, growth, whole)
            rows.append(
                (
                    kv_precision,
                    f"{past:,}",
                    *(f"{1e3 * x:,.0f}" for x in milliseconds),
                    f"{larger * first.cpu / whole:.2f}",
                )
            )
            print(*rows[-1], flush=True)
    headings = ("KV cache", "context", "CPU ms", "ms", "CPU ms more a layer", f"CPU ms, {args.layers} layers", "rate")
    print(markdown_table(headings, rows))


if __name__ == "__main__":
    main()
