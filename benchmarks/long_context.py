"""The engine's logits after a long prompt, beside those of transformers in f32.

    python -m benchmarks.long_context [--tokens 32768] [--layers 2] [--threads 1] [--plain]
    python -m benchmarks.long_context --tokens 131072 --heads 2

The checkpoint is random: layers of GLM-4-9B-0414's width, and the demo's vocabulary of 2,480. Its weights are the same
on both sides (the recipe bf16), so that the difference is that of the arithmetic: ours runs with f32 products and an
f32 KV cache. Ours is the engine that a chat loads, with its paged KV cache, steps of 128 tokens and prefix cache.

GenAI returns the log-probability of the token that it chose. So the last token's logits are sampled: the prompt is
read once, and then continued by one token for each of 512 seeds at temperature 1, for which the prefix cache leaves a
single token to compute. The figure is the largest difference of a log-probability, among the tokens so chosen, from
transformers'; the standard deviation of transformers' logits says what it is to be compared with.

transformers reads the prompt in chunks. All keys and values are computed; queries of the last layer, and what follows
them, only for the last token, since nothing depends on the others.

`--tokens` is the context; the prompt is the longest that leaves room for a reply and has one token more than whole
blocks. Contexts beyond the checkpoint's 32,768 tokens are YaRN's, as `edge convert --context` extends them, or, with
`--plain`, those of a checkpoint made for them. `--heads` is a number of query heads instead of 32, and makes hidden
size and FFN as much smaller; keys, values and RoPE stay as they are. The engine takes a quarter of an hour of one core
for two layers of full width and 32,768 tokens; attention grows with the square of the length.
"""

import argparse
import json
import os
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.pipeline import convert
from convert.recipe import RECIPES
from edge.catalogue import get_entry
from runtime.backends.backend import Delta, Options, Request
from runtime.backends.openvino.paged.prefix_cache import BLOCK
from runtime.backends.openvino.process.backend import SubprocessBackend
from runtime.checkpoint.architecture import Architecture
from runtime.checkpoint.long_context import extend_context
from runtime.folder.model_folder import ModelFolder
from runtime.sampling import SamplingParams

from .make_checkpoint import write
from .peers_report import markdown_table

VOCABULARY = 2480  # the demo tokenizer's
SEEDS = 512
_CHUNK = 1024  # tokens that transformers reads at a time


@dataclass(frozen=True, slots=True)
class LongContextRow:
    """The differences after a prompt. `spread` is the logits' standard deviation; seconds are the CPU's."""

    layers: int
    heads: int
    prompt: int
    rope: str
    compared: int
    largest: float
    mean: float
    spread: float
    engine_seconds: float
    reference_seconds: float


def prompt_length(context: int) -> int:
    """Return the tokens of the longest prompt that leaves room for a reply, one more than whole blocks."""
    return (context - 2) // BLOCK * BLOCK + 1


def engine_logprobs(folder: Path, ids: list[int], threads: int) -> dict[int, float]:
    """Return log-probabilities of tokens that may follow the prompt, as the engine reports them."""
    exact = Options(precision="f32", kv_precision="f32", activation_group=0, threads=threads)
    found = {}
    with closing(SubprocessBackend.load(ModelFolder.open(folder), "CPU", exact)) as backend:
        for seed in range(SEEDS):
            sampling = SamplingParams(temperature=1.0, seed=seed, max_new_tokens=1, logprobs=True)
            for event in backend.generate(Request((), (), sampling, prompt_ids=tuple(ids))):
                if isinstance(event, Delta) and event.logprob is not None and event.logprob.id is not None:
                    found[event.logprob.id] = event.logprob.logprob
    return found


def reference_logits(checkpoint: Path, ids: list[int], threads: int) -> np.ndarray[Any, Any]:
    """Return transformers' logits after the prompt, [vocab]."""
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache
    from transformers.models.glm4.modeling_glm4 import apply_rotary_pos_emb

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="sdpa")
    layers, cache = model.model.layers, DynamicCache(config=model.config)
    last = layers[-1]

    class KeysAndValues(torch.nn.Module):
        """The last layer's keys and values alone, by its own modules."""

        def forward(self, states: Any, position_embeddings: Any, **_: Any) -> Any:
            attention, normed = last.self_attn, last.input_layernorm(states)
            shape = (*states.shape[:-1], -1, attention.head_dim)
            keys = attention.k_proj(normed).view(shape).transpose(1, 2)
            values = attention.v_proj(normed).view(shape).transpose(1, 2)
            keys, _ = apply_rotary_pos_emb(keys, keys, *position_embeddings)
            cache.update(keys, values, attention.layer_idx)
            return states

    tokens = torch.tensor([ids])
    with torch.inference_mode():
        layers[-1] = KeysAndValues()
        for first in range(0, len(ids) - 1, _CHUNK):
            model.model(tokens[:, first : min(first + _CHUNK, len(ids) - 1)], past_key_values=cache, use_cache=True)
        layers[-1] = last
        logits = model(tokens[:, -1:], past_key_values=cache, use_cache=True).logits
    return logits[0, -1].double().numpy()  # type: ignore[no-any-return]


def compare(scratch: Path, shape: Architecture, context: int, threads: int, plain: bool) -> LongContextRow:
    """Convert a checkpoint, run both sides and compare them."""
    checkpoint, folder = scratch / "checkpoint", scratch / "folder"
    extended = context > shape.context and not plain
    write(checkpoint, replace(shape, context=context) if plain else shape, "bf16", seed=1)
    for _ in convert(checkpoint, folder, RECIPES["bf16"], context=context if extended else None):
        pass
    if extended:
        config = json.loads((checkpoint / "config.json").read_text())
        (checkpoint / "config.json").write_text(json.dumps(extend_context(config, context)))
    ids = np.random.default_rng(1).integers(0, shape.vocab, prompt_length(context)).tolist()
    start = os.times()
    ours = engine_logprobs(folder, ids, threads)
    between = os.times()
    logits = reference_logits(checkpoint, ids, threads)
    end = os.times()
    wanted = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
    differences = [abs(wanted[id] - value) for id, value in ours.items()]
    return LongContextRow(
        shape.layers,
        shape.heads,
        len(ids),
        "YaRN" if extended else "plain",
        len(ours),
        float(max(differences)),
        float(np.mean(differences)),
        float(logits.std()),
        between.children_user - start.children_user,
        end.user - between.user,
    )


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[32768])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, help="of queries, at least 2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="no YaRN: a checkpoint made for the context")
    args = parser.parse_args()
    shape = replace(get_entry("GLM-4-9B-0414").architecture, layers=args.layers, vocab=VOCABULARY)
    if heads := args.heads:
        widths = {name: getattr(shape, name) * heads // shape.heads for name in ("hidden", "ffn")}
        shape = replace(shape, heads=heads, **widths)
    rows = []
    for context in args.tokens:
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(compare(Path(scratch), shape, context, args.threads, args.plain))
        print(rows[-1], file=sys.stderr, flush=True)
    table = [
        (
            *(f"{number:,}" for number in (row.layers, row.heads, row.prompt)),
            row.rope,
            f"{row.compared}",
            f"{row.largest:.2g}",
            f"{row.mean:.2g}",
            f"{row.spread:.2f}",
            f"{row.engine_seconds:.0f}, {row.reference_seconds:.0f}",
        )
        for row in rows
    ]
    headings = (
        "layers",
        "heads",
        "prompt",
        "RoPE",
        "tokens compared",
        "largest",
        "mean",
        "spread of logits",
        "CPU s, theirs",
    )
    print(markdown_table(headings, table))


if __name__ == "__main__":
    main()
