"""Recipes: named settings of weight compression, with their cost and expected accuracy."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

from runtime.errors import ConversionError

Mode = Literal["int4_sym", "int4_asym", "nf4", "int8_sym", "int8_asym"]  # NNCF's names
MatrixKind = Literal["linear", "embedding", "head"]  # a tied head is its embedding

DEFAULT = "int4-fit"
PLAIN = "int4"  # the default without calibration: for ONNX files, vision models and optimum-intel
STORED = "stored"  # the default for weights that are quantised in 4 bits already
SMALLEST_GROUP = 32
_BLOCK_GPTQ_TOKENS = 4096  # beyond these, quality hardly gains and time does
_NEAR_LOSSLESS_KL = 0.005  # nats a token; int8 stays below it
_BITS: dict[Mode, tuple[int, int]] = {  # of a weight; of a group's f16 scale and zero point
    "int4_sym": (4, 16),
    "int4_asym": (4, 16 + 4),
    "nf4": (4, 16),
    "int8_sym": (8, 16),
    "int8_asym": (8, 16 + 8),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way to compress a checkpoint's weights.

    `linear` is the NNCF mode of the decoder's matrices, `embedding_and_head` that of the embedding and the head; None
    keeps the checkpoint's dtype. `head` is the mode of a head that is not tied to the embedding, if it is another. In
    int4, `group_size` neighbours in a row share a scale; -1 is one scale a row. int8 has one scale a row.

    `ratio` is the share of the decoder's weights that become int4; the matrices that NNCF rates most sensitive become
    int8 (`weights/sensitivity.py`). `awq`, `scale` (scale estimation) and `gptq` are NNCF's data-aware methods;
    `block_gptq` is our own (`weights/block_gptq.py`), which reads at most `calibration_tokens` of the texts.
    `keep_blocks` keeps weights that are quantised already (a GGUF's blocks, GPTQ, AWQ, compressed-tensors) unchanged
    where OpenVINO has their format, and compresses the rest.

    `max_kl` is the mean KL divergence from the checkpoint, in nats a token, above which verification rejects the
    result: a limit that catches damage, several times what a trained checkpoint shows. `usual_kl` is the limit for
    "as close as usual". Both were measured by `edge convert edge/demo/checkpoint` with each recipe; larger models stay
    closer to their checkpoint.
    """

    name: str
    summary: str
    linear: Mode | None
    embedding_and_head: Mode | None
    group_size: int = -1
    ratio: float = 1.0
    awq: bool = False
    scale: bool = False
    gptq: bool = False
    devices: tuple[str, ...] = ("CPU", "GPU")
    max_kl: float = 0.5
    usual_kl: float = 0.4
    keep_blocks: bool = False
    block_gptq: bool = False
    head: Mode | None = None

    @property
    def needs_calibration(self) -> bool:
        """Return whether compression needs calibration texts."""
        return self.awq or self.scale or self.gptq or self.block_gptq

    @property
    def calibration_tokens(self) -> int | None:
        """The most tokens of the calibration texts that are read; None for all."""
        return _BLOCK_GPTQ_TOKENS if self.block_gptq else None

    @property
    def cost(self) -> str:
        """The time to convert a 9B model on a laptop, in words."""
        slow = "hours" if self.gptq or self.scale else "an hour" if self.awq else ""
        return slow or ("20 min" if self.block_gptq else "minutes")

    @property
    def backup(self) -> Mode:
        """NNCF's backup mode: that of matrices that cannot or should not be int4."""
        return "int8_sym" if self.embedding_and_head == "int8_sym" else "int8_asym"

    @property
    def vision_obstacle(self) -> str:
        """Why the recipe is not for vision models; "" where it is."""
        if self.keep_blocks:
            return "keeps weights that are quantised already"
        if "NPU" in self.devices:
            return "is for NPUs"
        int4 = (self.embedding_and_head or "").startswith("int4")
        return "has an embedding in int4" if int4 else ""

    def mode(self, kind: MatrixKind, *, sensitive: bool = False) -> Mode | None:
        """Return the mode of a matrix, whatever its columns; None keeps the checkpoint's dtype."""
        if kind == "linear":
            return self.backup if sensitive else self.linear
        return self.head if kind == "head" and self.head else self.embedding_and_head

    def mode_and_group(
        self, columns: int, *, kind: MatrixKind = "linear", sensitive: bool = False
    ) -> tuple[Mode | None, int]:
        """Return the mode and group size of a matrix with so many columns.

        As in NNCF, a group size that does not divide the columns becomes the largest power of two that does, or int8.
        """
        mode = self.mode(kind)
        if sensitive:
            return self.backup, -1
        if mode is None or mode.startswith("int8") or self.group_size == -1:
            return mode, -1
        if columns % self.group_size == 0:
            return mode, self.group_size
        smaller = columns & -columns
        return (mode, smaller) if smaller >= SMALLEST_GROUP else (self.backup, -1)

    def fallback_note(self, columns: int) -> str:
        """Return why a matrix of the decoder does not get the recipe's group size; "" where it does."""
        mode, group = self.mode_and_group(columns)
        if (mode, group) == (self.linear, self.group_size) or self.linear is None or self.linear.startswith("int8"):
            return ""
        instead = f"groups of {group}" if group != -1 else f"{mode}"
        return f"{instead}, since {columns} columns do not divide into groups of {self.group_size}"

    def nbytes(
        self,
        rows: int,
        columns: int,
        *,
        kind: MatrixKind = "linear",
        sensitive: bool = False,
        source_bits: int = 16,
    ) -> int:
        """Return the bytes of a matrix in the IR. `source_bits` is the size of a weight in the checkpoint."""
        mode, group = self.mode_and_group(columns, kind=kind, sensitive=sensitive)
        if mode is None:
            return rows * columns * source_bits // 8
        weight, shared = _BITS[mode]
        groups = 1 if group == -1 else columns // group
        return rows * (columns * weight + groups * shared) // 8

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as `edge recipes --json` prints it."""
        renamed = {"embedding_and_head": "ends", "keep_blocks": "take_over"}
        return {renamed.get(name, name): value for name, value in asdict(self).items()}


def default_recipe(*, vision: bool) -> str:
    """Return the name of the default recipe for a checkpoint whose weights are not in 4 bits already."""
    return PLAIN if vision else DEFAULT  # calibration texts have no pictures


_NPU = ("NPU", "CPU", "GPU")

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "int4-fit",
            "fitted to texts: close, small",
            "int4_sym",
            "int8_asym",
            128,
            block_gptq=True,
            head="int4_sym",
            usual_kl=0.25,
        ),
        Recipe("int4", "groups of 128: small and fast", "int4_sym", "int8_asym", 128),
        Recipe("int4-asym", "zero points: slower on CPUs", "int4_asym", "int8_asym", 128, max_kl=0.6, usual_kl=0.42),
        Recipe("int4-g64", "groups of 64", "int4_sym", "int8_asym", 64, max_kl=0.6, usual_kl=0.3),
        Recipe("int4-g32", "groups of 32: closer, larger", "int4_sym", "int8_asym", 32, usual_kl=0.25),
        Recipe("int4-mixed", "a sensitive fifth in int8", "int4_sym", "int8_asym", 128, ratio=0.8, usual_kl=0.25),
        Recipe("int4-small", "an int4 head, too: the smallest", "int4_sym", "int4_sym", 128, max_kl=0.8, usual_kl=0.55),
        Recipe("int4-awq", "important weights protected", "int4_sym", "int8_asym", 128, awq=True),
        Recipe("int4-scale", "scales fitted to texts", "int4_sym", "int8_asym", 128, scale=True, usual_kl=0.3),
        Recipe("int4-gptq", "rounding fitted to texts: closest", "int4_sym", "int8_asym", 128, gptq=True, usual_kl=0.2),
        Recipe(
            "int4-npu", "a scale a row: made for NPUs", "int4_sym", "int8_sym", devices=_NPU, max_kl=0.6, usual_kl=0.5
        ),
        Recipe("nf4-npu", "int4-npu in NF4: not every NPU", "nf4", "int8_sym", devices=_NPU),
        Recipe("int8", "close to the checkpoint", "int8_asym", "int8_asym", max_kl=0.05, usual_kl=0.01),
        Recipe(
            "stored",
            "the checkpoint's own, if quantised",
            "int8_asym",
            "int8_asym",
            max_kl=0.05,
            keep_blocks=True,
            usual_kl=0.01,
        ),
        Recipe("bf16", "the checkpoint's own weights", None, None, max_kl=0.01, usual_kl=0.001),
    )
}


def verdict(name: str, figures: Mapping[str, float]) -> str:
    """Describe a verification's figures in a sentence: whether they are as usual for the recipe, and the figures."""
    known = name.partition("+")[0] in RECIPES
    if not known or not {"tokens", "mean_kl", "top1"} <= figures.keys():  # written by another version
        return ", ".join(f"{figure} {value:.4g}" for figure, value in figures.items())
    if figures["mean_kl"] < _NEAR_LOSSLESS_KL:
        words = "nearly the same as the checkpoint"
    elif figures["mean_kl"] <= get_recipe(name).usual_kl:
        words = f"as close to the checkpoint as {name} usually is"
    else:
        words = f"farther from the checkpoint than {name} usually is; `edge eval` measures it on more texts"
    share, tokens = math.floor(100 * figures["top1"]), figures["tokens"]
    return f"{words} (the same next token in {share} % of {tokens:,.0f} positions; mean KL {figures['mean_kl']:.3g})"


DATA_METHODS = ("awq", "scale", "gptq")  # NNCF's methods that need calibration texts


def get_recipe(name: str) -> Recipe:
    """Return the recipe called `name`: a built-in one, or an int4 one with data-aware methods (int4-g32+gptq,
    int4+awq+scale). Raise ConversionError, naming the recipes that exist."""
    if name in RECIPES:
        return RECIPES[name]
    base, *methods = name.split("+")
    if base.startswith("int4") and base in RECIPES and methods and set(methods) <= set(DATA_METHODS):
        recipe = RECIPES[base]
        if recipe.block_gptq:
            raise ConversionError(
                f"the recipe {base} cannot be combined with {', '.join(methods)}",
                hint=f"use {base} by itself, or int4+{'+'.join(methods)}",
            )
        awq, scale, gptq = (method in methods or getattr(recipe, method) for method in DATA_METHODS)
        summary = f"{recipe.summary}; with {' and '.join(methods)}"
        usual = min(RECIPES[each].usual_kl for each in (base, *(f"int4-{method}" for method in methods)))
        return replace(recipe, name=name, summary=summary, awq=awq, scale=scale, gptq=gptq, usual_kl=usual)
    near = get_close_matches(name.lower(), RECIPES, n=1, cutoff=0.5)
    raise ConversionError(
        f"there is no recipe {name!r}",
        hint=(f"did you mean {near[0]!r}? " if near else "")
        + f"recipes: {', '.join(RECIPES)}; those of int4 but int4-fit may end in +{', +'.join(DATA_METHODS)}",
    )
