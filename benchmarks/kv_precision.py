"""The divergence that a KV cache of few bits costs, by the number of tokens before a token.

    python -m benchmarks.kv_precision [CHECKPOINT] [--kv u8 u4 f16] [--context 2048]

The checkpoint (the embedded one) is converted without compression and runs in f32 with the paged attention of the
engine, in steps of a block; the same with a cache in f32 is the reference. The texts are those of `edge eval`, joined
to pieces as long as the context.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from convert.check.divergence import LogitSource, compare_logits
from convert.pipeline import convert
from convert.recipe import RECIPES
from edge.demo import CHECKPOINT
from edge.evaluation.target import EvaluationTarget
from runtime.backends.backend import Options
from runtime.checkpoint.checkpoint import Checkpoint

from .long_decode import PagedGraph
from .peers_report import markdown_table

_FIRST = 512  # tokens before a token; those with fewer are left out of the second figure


def pieces(texts: list[np.ndarray[Any, Any]], length: int) -> list[np.ndarray[Any, Any]]:
    """Return the texts, joined and cut into pieces of this length; what remains is left out."""
    joined = np.concatenate(texts)
    return [joined[first : first + length] for first in range(0, len(joined) - length + 1, length)]


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=CHECKPOINT)
    parser.add_argument("--kv", nargs="+", default=["u8", "u4", "f16"])
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "folder"
        for _ in convert(args.checkpoint, folder, RECIPES["bf16"]):
            pass
        target = EvaluationTarget.open(folder, args.context)
        texts = pieces(list(target.token_ids(None, Checkpoint.open(args.checkpoint)).values()), args.context)

        def logits(kv_precision: str) -> list[np.ndarray[Any, Any]]:
            options = Options(kv_precision=kv_precision, precision="f32", activation_group=0, threads=args.threads)
            graph = PagedGraph(folder, options, args.context)
            return [graph.logits(text) for text in texts]

        wanted = logits("f32")
        rows = []
        for kv_precision in args.kv:
            found = logits(kv_precision)
            for first in (0, _FIRST):
                parts = [LogitSource([x[first:] for x in side], lambda x: x) for side in (found, wanted)]
                figures = compare_logits([text[first:] for text in texts], *parts).figures()
                assert figures.mean_kl is not None
                assert figures.p99_kl is not None
                assert figures.top1 is not None
                row = (kv_precision, f"{first:,}", f"{figures.tokens:,}", f"{figures.mean_kl:.2g}")
                rows.append((*row, f"{figures.p99_kl:.2g}", f"{figures.top1:.2%}"))
    print(markdown_table(("KV cache", "tokens before", "tokens", "mean KL", "99th percentile", "top-1"), rows))


if __name__ == "__main__":
    main()
