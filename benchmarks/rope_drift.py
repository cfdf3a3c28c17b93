"""Divergence of exported models from the checkpoint by context length: our exports, and optimum-intel's.

    PYTHON -m benchmarks.rope_drift [--tokens 2048 8192 32768]

The checkpoint is random: four narrow layers, with heads, RoPE and context of GLM-4-9B-0414. The reference is
transformers in f32, for both exporters. optimum-intel exports in f16 (`--weight-format fp16`), int8 and int4; our
recipes are bf16, int8 and int4. All run in f32 with an f32 cache, so that the differences are those of the IR. Figures
are over the last 256 tokens before each length: the largest difference of a logit, the mean KL divergence from the
reference in nats, and top-1 agreement. The reference's weights are not compressed, so for int8 and int4 only the growth
of the divergence matters.

PYTHON is that of the environment of tests/environments/optimum.sh.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.graph import decoder_inputs
from convert.pipeline import convert
from convert.recipe import RECIPES

from .make_checkpoint import TINY, write
from .peers_report import markdown_table

SHAPE = replace(TINY, layers=4, hidden=512, heads=4, kv_heads=2, head_dim=128, rotary_dim=64, ffn=1024, context=32768)
WINDOW = 256  # tokens
_CHUNK = 1024  # tokens at a time: the mask has a row for each
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}

Run = Callable[[np.ndarray[Any, Any], int], np.ndarray[Any, Any]]  # ids (1,T) and tokens before -> logits (T,vocab)


@dataclass(frozen=True, slots=True)
class DriftRow:
    """The divergence of an export at a context length."""

    export: str
    tokens: int
    max_logit_difference: float
    mean_kl: float
    top1: float


def openvino_model(folder: Path) -> Run:
    import openvino as ov

    request = ov.Core().compile_model(folder / "openvino_model.xml", "CPU", _EXACT).create_infer_request()

    def run(ids: np.ndarray[Any, Any], before: int) -> np.ndarray[Any, Any]:
        inputs = decoder_inputs(request.get_compiled_model(), ids[0], before)
        return np.array(request.infer(inputs)["logits"][0])

    return run


def transformers_model(checkpoint: Path) -> Run:
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    cache = DynamicCache()

    def run(ids: np.ndarray[Any, Any], before: int) -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            logits = model(torch.from_numpy(ids), past_key_values=cache, use_cache=True).logits
            return logits[0].numpy()  # type: ignore[no-any-return]

    return run


def window_logits(run: Run, ids: np.ndarray[Any, Any], lengths: list[int]) -> dict[int, np.ndarray[Any, Any]]:
    """Return the logits of the last WINDOW tokens before each length, [WINDOW, vocab] in f64."""
    found = {}
    for first in range(0, max(lengths), _CHUNK):
        logits = run(ids[:, first : first + _CHUNK], first)
        if (end := first + _CHUNK) in lengths:
            found[end] = logits[-WINDOW:].astype(np.float64)
    return found


def compare(
    name: str, reference: dict[int, np.ndarray[Any, Any]], found: dict[int, np.ndarray[Any, Any]]
) -> Iterator[DriftRow]:
    for length, wanted in reference.items():
        p, q = (logits - np.log(np.exp(logits).sum(-1, keepdims=True)) for logits in (wanted, found[length]))
        yield DriftRow(
            name,
            length,
            float(np.abs(wanted - found[length]).max()),
            float((np.exp(p) * (p - q)).sum(-1).mean()),
            float((wanted.argmax(-1) == found[length].argmax(-1)).mean()),
        )


def exports(checkpoint: Path, scratch: Path, recipes: list[str]) -> Iterator[tuple[str, Path]]:
    for recipe in recipes:
        target = scratch / f"ours-{recipe}"
        for _ in convert(checkpoint, target, replace(RECIPES[recipe], max_kl=99.0)):
            pass
        yield f"ours {recipe}", target
        form = "fp16" if recipe == "bf16" else recipe
        target = scratch / f"optimum-{form}"
        command = [
            sys.executable,
            "-m",
            "optimum.commands.optimum_cli",
            "export",
            "openvino",
            "--model",
            str(checkpoint),
        ]
        options = ["--task", "text-generation-with-past", "--disable-convert-tokenizer", "--weight-format", form]
        if form == "int4":
            options += ["--sym", "--group-size", "128", "--ratio", "1.0"]
        subprocess.run([*command, *options, str(target)], check=True, capture_output=True)
        yield f"optimum-intel {form}", target


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 8192, 32768], help=f"multiples of {_CHUNK}")
    parser.add_argument("--recipes", nargs="+", default=["bf16", "int8", "int4"], choices=("bf16", "int8", "int4"))
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "f16"), help="of the checkpoint")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    ids = np.random.default_rng(1).integers(0, SHAPE.vocab, (1, max(args.tokens)))
    rows: list[DriftRow] = []
    with tempfile.TemporaryDirectory() as name:
        checkpoint = Path(name) / "checkpoint"
        write(checkpoint, SHAPE, args.dtype, seed=1)
        reference = window_logits(transformers_model(checkpoint), ids, args.tokens)
        for export, folder in exports(checkpoint, Path(name), args.recipes):
            rows += compare(export, reference, window_logits(openvino_model(folder), ids, args.tokens))
            print(*rows[-len(args.tokens) :], sep="\n", file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    figures = ((f"{r.tokens:,}", f"{r.max_logit_difference:.2g}", f"{r.mean_kl:.2g}", f"{r.top1:.3f}") for r in rows)
    print(
        markdown_table(
            ("export", "tokens", "max logit difference", "mean KL", "top-1"),
            [(row.export, *figure) for row, figure in zip(rows, figures, strict=True)],
        )
    )


if __name__ == "__main__":
    main()
