"""Quality, size and speed of the recipes, as Markdown tables.

    python -m benchmarks.quality CHECKPOINT [--recipes int8 int4] [--context 2048] [--layer GLM-4-9B-0414] [--q4-0]

The first table compares conversions of the checkpoint: Kullback-Leibler divergence from the uncompressed model in nats
a token, on the texts of `edge eval` and with only the weights compressed; and the decode rate with default properties.
The second compares one random layer in the shape of a full-size model by the error of its output. Random weights have
no outliers, so it shows the effect of rounding alone, and calibration has no effect.

`--q4-0` adds llama.cpp's Q4_0 to the first table, measured in the same way: matrices in Q4_0, the head, and a tied
embedding with it, in Q6_K, as `llama-quantize` writes them. Needs the extra [gguf].
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.make_checkpoint import write
from convert.check import divergence as quality
from convert.check import layerwise as saved
from convert.check import reference
from convert.pipeline import convert
from convert.recipe import RECIPES, Recipe, get_recipe
from edge import bench
from edge.catalogue import get_entry
from edge.demo import CHECKPOINT
from edge.evaluation.report import format_nats, format_share
from edge.evaluation.target import EvaluationTarget
from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.tensors import CheckpointTensors, Tensor
from runtime.folder.model_folder import ModelFolder

_VOCABULARY = 4096  # of the random checkpoint: more than the demo's tokenizer has, and small beside the layer
_TOKENS = 512


@dataclass(frozen=True, slots=True)
class RecipeRow:
    """A recipe's size, quality and decode rate."""

    recipe: str
    megabytes: float
    bits: float
    figures: quality.DivergenceFigures
    decode: bench.Summary | None


@dataclass(frozen=True, slots=True)
class LayerRow:
    """The error of what a layer adds to its input: its relative norm, and the cosine of both outputs."""

    recipe: str
    bits: float
    error: float
    cosine: float


class Q40Checkpoint:
    """A checkpoint whose matrices are rounded as llama.cpp rounds them: to Q4_0, the head's to Q6_K."""

    def __init__(self, checkpoint: CheckpointTensors) -> None:
        self.checkpoint = checkpoint

    @property
    def architecture(self) -> Architecture:
        """The decoder's shape."""
        return self.checkpoint.architecture

    def tensor(self, name: str) -> Tensor:
        """Return the tensor, rounded, in f32."""
        tensor = self.checkpoint.tensor(name)
        if len(tensor.shape) == 1:
            return tensor
        rounded = to_q6_k if name == self.architecture.head_name else to_q4_0
        return Tensor(name, tensor.shape, "f32", rounded(tensor.f32()))

    def release(self) -> None:
        """Return the memory of tensors that were read."""
        self.checkpoint.release()

    def nbytes(self) -> int:
        """Return the bytes of all matrices in these formats."""
        matrices = {name: prod(shape) for name, shape in self.architecture.shapes() if len(shape) == 2}
        head = matrices.pop(self.architecture.head_name)
        return (18 * sum(matrices.values())) // 32 + 210 * head // 256


def to_q4_0(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the values as they come out of Q4_0."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    found = dequantize(quantize(values, GGMLQuantizationType.Q4_0), GGMLQuantizationType.Q4_0)
    return np.asarray(found, np.float32).reshape(values.shape)


def to_q6_k(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the values as they come out of Q6_K: 6 bits in blocks of 16, whose scales have 8 bits in blocks of 256."""
    blocks = values.reshape(-1, 16, 16)
    low, high = blocks.min(-1, keepdims=True), blocks.max(-1, keepdims=True)
    scale = np.where(-low >= high, low, high) / -32
    unit = (np.abs(scale).max(1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
    scale = np.rint(scale / np.where(unit == 0, 1, unit)) * unit
    codes = np.clip(np.rint(blocks / np.where(scale == 0, 1, scale)), -32, 31)
    return np.asarray(codes * scale, np.float32).reshape(values.shape)


def measure_recipes(
    path: Path, recipes: list[Recipe], context: int | None, *, q4_0: bool = False
) -> Iterator[RecipeRow]:
    """Convert with each recipe and evaluate; the checkpoint is evaluated once. `q4_0` evaluates llama.cpp's, too."""
    source, ids, wanted = Checkpoint.open(path), [], None
    with source.weights() as checkpoint:
        for recipe, folder in convert_each(path, recipes):
            target = EvaluationTarget.open(folder.path, context)
            if wanted is None:
                ids = list(target.token_ids(None, source).values())
                wanted = quality.LogitSource(
                    reference.hidden_states(checkpoint, ids), reference.checkpoint_head(checkpoint)
                )
            layers = saved.LayerwiseModel(folder.path, target.architecture)
            figures = quality.compare_logits(
                ids, quality.LogitSource(layers.hidden_states(ids), layers.head()), wanted
            ).figures()
            del layers
            speed = bench.benchmark(folder, device="CPU", prompt_tokens=128, new_tokens=128)
            facts = target.describe(None)
            yield RecipeRow(recipe.name, facts["weights"] / 1e6, facts["bits_per_weight"], figures, speed.decode)
        if q4_0 and wanted is not None:
            rounded = Q40Checkpoint(checkpoint)
            found = quality.LogitSource(reference.hidden_states(rounded, ids), reference.checkpoint_head(rounded))
            figures = quality.compare_logits(ids, found, wanted).figures()
            weights = sum(prod(shape) for _, shape in checkpoint.architecture.shapes())
            nbytes = rounded.nbytes()
            yield RecipeRow("llama.cpp Q4_0, head Q6_K", nbytes / 1e6, 8 * nbytes / weights, figures, None)


def measure_layer(architecture: Architecture, recipes: list[Recipe]) -> Iterator[LayerRow]:
    """Measure one random layer in the shape of `architecture`, with the weights of `make_checkpoint`."""
    architecture = replace(architecture, layers=1, vocab=_VOCABULARY)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        path = Path(scratch) / "random"
        write(path, architecture, "bf16", seed=1)
        with CheckpointTensors.open(path) as checkpoint:
            a = checkpoint.architecture
            ids = np.random.default_rng(1).integers(0, a.vocab, _TOKENS)
            x = checkpoint.tensor("model.embed_tokens.weight").gather(ids).f32()
            stage = reference.CompiledBlock(a, reference.layer_model)
            wanted = x.copy()
            weights = {name: checkpoint.tensor(name) for name, _ in a.layer_shapes(0)}
            reference.run_layer(stage.bind(weights), a, wanted)
            wanted -= x
            for recipe, folder in convert_each(path, recipes):
                found = x.copy()
                reference.run_layer(next(saved.LayerwiseModel(folder.path, a).layers()), a, found)
                found -= x
                linear = sum(recipe.nbytes(*shape) for _, shape in a.layer_shapes(0) if len(shape) == 2)
                values = sum(shape[0] * shape[1] for _, shape in a.layer_shapes(0) if len(shape) == 2)
                error = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
                product = np.linalg.norm(found, axis=-1) * np.linalg.norm(wanted, axis=-1)
                cosine = float(((found * wanted).sum(-1) / product).mean())
                yield LayerRow(recipe.name, 8 * linear / values, error, cosine)


def convert_each(path: Path, recipes: list[Recipe]) -> Iterator[tuple[Recipe, ModelFolder]]:
    """Convert with each recipe, without a limit on quality; a folder exists until the next one."""
    for recipe in recipes:
        print(f"{path.name}: {recipe.name}", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
            folder = Path(scratch) / recipe.name
            for _ in convert(path, folder, replace(recipe, max_kl=float("inf"))):
                pass
            yield recipe, ModelFolder.open(folder)


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=CHECKPOINT, help="the embedded one by default")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), help="by name (all)")
    parser.add_argument("--context", type=int, help="tokens of the longest text, as in `edge eval`")
    parser.add_argument("--q4-0", action="store_true", help="also llama.cpp's Q4_0, with a head in Q6_K")
    parser.add_argument("--layer", metavar="MODEL", help="also one random layer of a model of `edge models`")
    options = parser.parse_args()
    recipes = [get_recipe(name) for name in options.recipes]
    print("| recipe | MB | bits a weight | mean KL | p99 KL | top-1 | perplexity | decode, tokens/s |")
    print("|---|---|---|---|---|---|---|---|")
    last = None
    for row in measure_recipes(options.checkpoint, recipes, options.context, q4_0=options.q4_0):
        f, last = row.figures, row.figures
        speed = f"{d.median:,.1f} ({d.low:,.1f} to {d.high:,.1f})" if (d := row.decode) else "–"
        print(
            f"| {row.recipe} | {row.megabytes:,.1f} | {row.bits:.2f} | {format_nats(f.mean_kl)} "
            f"| {format_nats(f.p99_kl)} | {format_share(f.top1)} | {f.perplexity:,.2f} | {speed} |",
            flush=True,
        )
    if last is not None:
        print(f"\nOver {last.tokens:,} tokens; the checkpoint's own perplexity is {last.reference_perplexity:,.2f}.")
    if options.layer:
        print(f"\n| recipe, a layer of {options.layer} | bits a weight | error of its output | cosine |")
        print("|---|---|---|---|")
        for layer in measure_layer(get_entry(options.layer).architecture, recipes):
            print(f"| {layer.recipe} | {layer.bits:.2f} | {layer.error:.2%} | {layer.cosine:.6f} |", flush=True)


if __name__ == "__main__":
    main()
