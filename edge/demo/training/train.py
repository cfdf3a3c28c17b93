"""Train the embedded checkpoint: `python -m edge.demo.training.train OUT` makes tokenizer, dialogues and weights.

A `Glm4ForCausalLM` of 4 million parameters learns from dialogues that are made as it goes, short ones first. The
last part trains through int4 weights (groups of 128, symmetric and asymmetric), so that compression costs little.
Everything is seeded; two CPU cores need about 80 minutes.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import Glm4ForCausalLM

from .dialogues import CHOICE, FULL, LONG, SMALL, Dialogue, DialogueSize, held_out, make_dialogue, training
from .int4 import FakeInt4
from .model import CONTEXT, config, initialise, save
from .prompt import render
from .tokenizer import save_tokenizer, train_tokenizer

LENGTHS = (256, 320, 384, 512, 640, 768, 1024, 1408, 2048)
DECISION_WEIGHT = 4.0


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How to train. Shares are of all steps: the end of the short dialogues, the start of decay and of int4.

    While the dialogues are short, the prompts are learned too, with a small weight: repeated names teach
    the model to copy, long before the replies do.
    """

    steps: int = 8400
    tokens: int = 4096
    peak: float = 3e-3
    short_until: float = 0.5
    decay_from: float = 0.6
    int4_from: float = 0.8
    first: int = 0

    def rate(self, step: int) -> float:
        """The learning rate: a short rise, a plateau, a straight line to zero."""
        rise = (step + 1 - self.first) / 30
        return self.peak * min(1.0, rise, (1 - step / self.steps) / (1 - self.decay_from))


class Encoder:
    """Encodes dialogues as token ids, with a loss weight for each.

    The first token of a reply has the largest weight: it decides between text and tools.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        ids = {token: tokenizer.token_to_id(token) for token in ("<|assistant|>", "<|user|>", "<|observation|>", "ĠĊ")}
        self.assistant, self.stops = ids["<|assistant|>"], {ids["<|user|>"], ids["<|observation|>"]}
        # The template writes `name \n{…}` where the model itself writes `name\n{…}`: never learn the former.
        self.separator = ids["ĠĊ"]

    def __call__(self, dialogue: Dialogue, prompt_weight: float = 0.0) -> tuple[list[int], list[float]]:
        """Return a dialogue's token ids and loss weights."""
        ids: list[int] = self.tokenizer.encode(render(dialogue) + dialogue.reply, add_special_tokens=False).ids
        weights, replying, before = [], False, -1
        for token in ids:
            weight = 1.0 if replying else prompt_weight
            weights.append(0.0 if token == self.separator else DECISION_WEIGHT if before == self.assistant else weight)
            replying = token == self.assistant or (replying and token not in self.stops)
            before = token
        return ids, weights


def mixed(seed: int, shares: dict[DialogueSize, float]) -> Iterator[Dialogue]:
    """Yield training dialogues of several sizes, in these shares."""
    rng = random.Random(seed)
    while True:
        yield make_dialogue(rng, held_out_split=False, size=rng.choices(tuple(shares), tuple(shares.values()))[0])


def batches(
    encode: Encoder, dialogues: Iterator[Dialogue], tokens: int, prompt_weight: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of about `tokens` tokens, ids and loss weights [batch, length], of similarly long dialogues."""
    waiting: dict[int, list[tuple[list[int], list[float]]]] = {length: [] for length in LENGTHS}
    for dialogue in dialogues:
        ids, weights = encode(dialogue, prompt_weight)
        length = next((length for length in LENGTHS if len(ids) <= length + 1), None)
        if length is None:
            continue
        waiting[length].append((ids, weights))
        if len(waiting[length]) == max(1, tokens // length):
            rows, waiting[length] = waiting[length], []
            shape = len(rows), length + 1
            batch, weight = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
            for row, (ids, weights) in enumerate(rows):
                batch[row, : len(ids)] = torch.tensor(ids)
                weight[row, : len(ids)] = torch.tensor(weights)
            yield batch, weight


def logits_at(model: Glm4ForCausalLM, ids: Tensor, wanted: Tensor) -> Tensor:
    """Return the logits [n, vocabulary] at the `wanted` positions only."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        return model.lm_head(hidden[wanted]).float()


def weighted_loss(model: Glm4ForCausalLM, batch: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean cross-entropy."""
    targets, weights = batch[:, 1:], weight[:, 1:]
    counts = weights > 0
    losses = functional.cross_entropy(logits_at(model, batch[:, :-1], counts), targets[counts], reduction="none")
    return (losses * weights[counts]).sum() / weights.sum()


def count_exact(model: Glm4ForCausalLM, encode: Encoder, dialogues: tuple[Dialogue, ...]) -> dict[str, tuple[int, int]]:
    """Count the replies that greedy decoding reproduces exactly, and all replies, by kind."""
    scores: dict[str, tuple[int, int]] = {}
    for dialogue in dialogues:
        ids = encode(dialogue)[0]
        reply = len(encode.tokenizer.encode(dialogue.reply, add_special_tokens=False).ids)
        wanted = torch.zeros(1, len(ids), dtype=torch.bool)
        wanted[0, -reply - 1 : -1] = True
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            right = logits_at(model, torch.tensor([ids]), wanted).argmax(-1).tolist() == ids[-reply:]
        hits, count = scores.get(dialogue.kind, (0, 0))
        scores[dialogue.kind] = hits + right, count + 1
    return scores


def train(out: Path, plan: TrainingPlan, start: Path | None = None, measure_every: int = 600) -> None:
    """Train by the plan, keeping the best weights so far in `out`. `start` is a checkpoint to continue from."""
    torch.manual_seed(plan.first)
    out.mkdir(parents=True, exist_ok=True)
    if start is None:
        tokenizer = train_tokenizer(render(dialogue) + dialogue.reply for dialogue in islice(training(1), 3000))
        model = Glm4ForCausalLM(config(tokenizer)).float()
        initialise(model)
    else:
        tokenizer = Tokenizer.from_file(str(start / "tokenizer.json"))
        model = Glm4ForCausalLM.from_pretrained(start, dtype=torch.float32)
    save_tokenizer(tokenizer, out, CONTEXT)
    model.train()
    torch._dynamo.config.recompile_limit = 64
    for layer in model.model.layers:
        layer.compile(dynamic=False)
    embedding = model.model.embed_tokens.weight
    linears = [module.weight for module in model.model.modules() if isinstance(module, nn.Linear)]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    muon = torch.optim.Muon(linears, lr=plan.peak, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": [embedding], "share": 0.4}, {"params": vectors, "share": 0.2}]
    adam = torch.optim.AdamW(groups, lr=plan.peak, betas=(0.9, 0.98), weight_decay=0.0)
    encode, tested = Encoder(tokenizer), held_out(count=200)
    short = batches(encode, mixed(11 + plan.first, {CHOICE: 0.7, SMALL: 0.15, FULL: 0.15}), plan.tokens, 0.1)
    full = batches(encode, mixed(13 + plan.first, {CHOICE: 0.25, SMALL: 0.2, FULL: 0.5, LONG: 0.05}), plan.tokens, 0.0)
    best, began, losses = -1.0, time.monotonic(), []
    for step in range(plan.first, plan.steps):
        for optimizer in (muon, adam):
            for group in optimizer.param_groups:
                group["lr"] = plan.rate(step) * group.get("share", 1.0)
        batch, weight = next(short if step < plan.short_until * plan.steps else full)
        int4 = step >= plan.int4_from * plan.steps and step % 3 > 0
        with FakeInt4(linears if int4 else [], symmetric=step % 3 == 1):
            loss = weighted_loss(model, batch, weight)
            loss.backward()
        nn.utils.clip_grad_norm_([embedding, *vectors], 1.0)
        for optimizer in (muon, adam):
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            seconds = time.monotonic() - began
            print(f"step {step + 1} loss {sum(losses[-50:]) / 50:.4f} seconds {seconds:.0f}", flush=True)
        if (step + 1) % measure_every == 0 or step + 1 == plan.steps:
            with FakeInt4(linears if step >= plan.int4_from * plan.steps else [], symmetric=False):
                scores = count_exact(model, encode, tested)
            print(json.dumps(scores), flush=True)
            hits = sum(right for right, _ in scores.values()) / len(tested)
            if hits >= best or step + 1 == plan.steps:
                best = hits
                save(model, out)


def main() -> None:
    """Train by the plan that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m edge.demo.training.train", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=TrainingPlan().steps, help="batches in all (%(default)s)")
    parser.add_argument("--start", type=Path, metavar="CHECKPOINT", help="go on from this checkpoint")
    parser.add_argument("--first", type=int, default=0, metavar="STEP", help="the step that CHECKPOINT had come to")
    chosen = parser.parse_args()
    train(chosen.out, TrainingPlan(steps=chosen.steps, first=chosen.first), chosen.start)


if __name__ == "__main__":
    main()
