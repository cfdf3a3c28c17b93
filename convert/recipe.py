"""How a checkpoint's weights become small: named recipes, and what each costs and promises."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

from runtime.errors import ConversionError

Mode = Literal["int4_sym", "int4_asym", "int8_sym", "int8_asym"]  # NNCF's names

DEFAULT = "int4"
SMALLEST_GROUP = 32
_NEAR_LOSSLESS_KL = 0.005  # nats a token: what int8 shows
_BITS: dict[Mode, tuple[int, int]] = {  # of a weight, and of what a group shares: its f16 scale, its zero point
    "int4_sym": (4, 16),
    "int4_asym": (4, 16 + 4),
    "int8_sym": (8, 16),
    "int8_asym": (8, 16 + 8),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """`linear` is the mode of the decoder's matrices, `ends` that of the embedding and the head; None leaves them as
    they are. In int4, `group_size` neighbours in a row share a scale, or the whole row does: -1. In int8 the row does.

    A `ratio` below 1 is the share of the decoder's weights that become int4; the matrices which NNCF finds the most
    sensitive become int8 (`sensitive` below). `awq`, `scale` (estimation) and `gptq` are NNCF's methods that need data.
    `keep_blocks` leaves the blocks of a GGUF as they are where OpenVINO has their format, and compresses the rest.

    `max_kl` is the mean KL divergence from the checkpoint, in nats a token, over which a result is not fit for use. It
    is there to catch damage, not to grade: several times what a trained checkpoint shows. `usual_kl` grades: what the
    verification of a trained checkpoint stays below. Both were measured on the embedded one, and it stays farther from
    its checkpoint than a large model does.
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

    @property
    def needs_calibration(self) -> bool:
        """Whether it looks at what the decoder makes of texts."""
        return self.awq or self.scale or self.gptq

    @property
    def cost(self) -> str:
        """The time that 9B takes on a laptop, in a word."""
        return "hours" if self.gptq or self.scale else "an hour" if self.awq else "minutes"

    @property
    def backup(self) -> Mode:
        """The mode of what cannot or should not be int4."""
        return "int8_sym" if self.embedding_and_head == "int8_sym" else "int8_asym"

    def mode_and_group(
        self, columns: int, *, embedding_or_head: bool = False, sensitive: bool = False
    ) -> tuple[Mode | None, int]:
        """Mode and group size of a matrix with so many columns; `end` is the embedding or the head.

        As NNCF does, where the group size does not divide them: the largest power of two that does, or int8.
        """
        mode = self.embedding_and_head if embedding_or_head else self.linear
        if sensitive:
            return self.backup, -1
        if mode is None or mode.startswith("int8") or self.group_size == -1:
            return mode, -1
        if columns % self.group_size == 0:
            return mode, self.group_size
        smaller = columns & -columns
        return (mode, smaller) if smaller >= SMALLEST_GROUP else (self.backup, -1)

    def fallback_note(self, columns: int) -> str:
        """What to tell about a matrix of the decoder that cannot have the recipe's group size; "" if it can."""
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
        embedding_or_head: bool = False,
        sensitive: bool = False,
        source_bits: int = 16,
    ) -> int:
        """Bytes that a matrix takes in the IR; `stored_bits` has a weight in the checkpoint."""
        mode, group = self.mode_and_group(columns, embedding_or_head=embedding_or_head, sensitive=sensitive)
        if mode is None:
            return rows * columns * source_bits // 8
        weight, shared = _BITS[mode]
        groups = 1 if group == -1 else columns // group
        return rows * (columns * weight + groups * shared) // 8


_NPU = ("NPU", "CPU", "GPU")

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("int4", "groups of 128: small and fast", "int4_sym", "int8_asym", 128),
        Recipe("int4-asym", "zero points: slower on CPUs", "int4_asym", "int8_asym", 128, max_kl=0.6, usual_kl=0.42),
        Recipe("int4-g64", "groups of 64", "int4_sym", "int8_asym", 64, max_kl=0.6, usual_kl=0.3),
        Recipe("int4-g32", "groups of 32: closer, larger", "int4_sym", "int8_asym", 32, usual_kl=0.25),
        Recipe("int4-mixed", "a sensitive fifth in int8", "int4_sym", "int8_asym", 128, ratio=0.8, usual_kl=0.25),
        Recipe("int4-small", "an int4 head, too: the smallest", "int4_sym", "int4_sym", 128, max_kl=0.8, usual_kl=0.55),
        Recipe("int4-awq", "weights that texts need, spared", "int4_sym", "int8_asym", 128, awq=True),
        Recipe("int4-scale", "scales fitted to texts", "int4_sym", "int8_asym", 128, scale=True, usual_kl=0.3),
        Recipe("int4-gptq", "rounded to suit texts: closest", "int4_sym", "int8_asym", 128, gptq=True, usual_kl=0.2),
        Recipe(
            "int4-npu", "a scale a row: what NPUs want", "int4_sym", "int8_sym", devices=_NPU, max_kl=0.6, usual_kl=0.5
        ),
        Recipe("int8", "close to the checkpoint", "int8_asym", "int8_asym", max_kl=0.05, usual_kl=0.01),
        Recipe(
            "stored",
            "a GGUF's own blocks, or int8",
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
    """Say whether the figures of a verification are good for the recipe of that name, with the figures behind it."""
    known = name.partition("+")[0] in RECIPES
    if not known or not {"tokens", "mean_kl", "top1"} <= figures.keys():  # of another version
        return ", ".join(f"{figure} {value:.4g}" for figure, value in figures.items())
    if figures["mean_kl"] < _NEAR_LOSSLESS_KL:
        words = "nearly the same as the checkpoint"
    elif figures["mean_kl"] <= get_recipe(name).usual_kl:
        words = f"as close to the checkpoint as {name} usually is"
    else:
        words = f"farther from the checkpoint than {name} usually is; `edge eval` measures it on more texts"
    share, tokens = math.floor(100 * figures["top1"]), figures["tokens"]
    return f"{words} (the same next token in {share} % of {tokens:,.0f} positions; mean KL {figures['mean_kl']:.3g})"


DATA_METHODS = ("awq", "scale", "gptq")  # NNCF's that need data


def get_recipe(name: str) -> Recipe:
    """The recipe of that name, or an int4 one and methods that need data: int4-g32+gptq, int4+awq+scale. Raises
    ConversionError naming those that exist."""
    if name in RECIPES:
        return RECIPES[name]
    base, *methods = name.split("+")
    if base.startswith("int4") and base in RECIPES and methods and set(methods) <= set(DATA_METHODS):
        recipe = RECIPES[base]
        awq, scale, gptq = (method in methods or getattr(recipe, method) for method in DATA_METHODS)
        summary = f"{recipe.summary}; with {' and '.join(methods)}"
        usual = min(RECIPES[each].usual_kl for each in (base, *(f"int4-{method}" for method in methods)))
        return replace(recipe, name=name, summary=summary, awq=awq, scale=scale, gptq=gptq, usual_kl=usual)
    near = get_close_matches(name.lower(), RECIPES, n=1, cutoff=0.5)
    raise ConversionError(
        f"there is no recipe {name!r}",
        hint=(f"did you mean {near[0]!r}? " if near else "")
        + f"recipes: {', '.join(RECIPES)}; those of int4 may end in +{', +'.join(DATA_METHODS)}",
    )
