"""How a checkpoint's weights become small: named recipes, and what each costs and promises."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from runtime.errors import ConversionError

Mode = Literal["int4_sym", "int4_asym", "int8_sym", "int8_asym"]  # NNCF's names

SMALLEST_GROUP = 32
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

    `take_over` leaves the blocks of a GGUF as they are where OpenVINO has their format, and compresses the rest.

    `max_kl` is the mean KL divergence from the checkpoint, in nats a token, over which a result is not fit for use. It
    is there to catch damage, not to grade: several times what a trained checkpoint shows.
    """

    name: str
    summary: str
    linear: Mode | None
    ends: Mode | None
    group_size: int = -1
    max_kl: float = 0.5
    take_over: bool = False

    def form(self, columns: int, *, end: bool = False) -> tuple[Mode | None, int]:
        """Mode and group size of a matrix with so many columns; `end` is the embedding or the head.

        As NNCF does, where the group size does not divide them: the largest power of two that does, or int8.
        """
        mode = self.ends if end else self.linear
        if mode is None or mode.startswith("int8") or self.group_size == -1:
            return mode, -1
        if columns % self.group_size == 0:
            return mode, self.group_size
        smaller = columns & -columns
        return (mode, smaller) if smaller >= SMALLEST_GROUP else (self.ends, -1)

    def note(self, columns: int) -> str:
        """What to tell about a matrix of the decoder that cannot have the recipe's group size; "" if it can."""
        mode, group = self.form(columns)
        if (mode, group) == (self.linear, self.group_size) or self.linear is None or self.linear.startswith("int8"):
            return ""
        instead = f"groups of {group}" if group != -1 else f"{mode}"
        return f"{instead}, since {columns} columns do not divide into groups of {self.group_size}"

    def nbytes(self, rows: int, columns: int, *, end: bool = False, stored_bits: int = 16) -> int:
        """Bytes that a matrix takes in the IR; `stored_bits` has a weight in the checkpoint."""
        mode, group = self.form(columns, end=end)
        if mode is None:
            return rows * columns * stored_bits // 8
        weight, shared = _BITS[mode]
        groups = 1 if group == -1 else columns // group
        return rows * (columns * weight + groups * shared) // 8


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("int4", "4 bits a weight: the smallest and fastest", "int4_sym", "int8_asym", 128, max_kl=0.5),
        Recipe("int4-npu", "4 bits, a scale a row: what NPUs want", "int4_sym", "int8_sym", -1, max_kl=0.6),
        Recipe("int8", "8 bits a weight: close to the checkpoint", "int8_asym", "int8_asym", max_kl=0.05),
        Recipe(
            "stored",
            "a GGUF's own blocks, where OpenVINO has their format, else int8",
            "int8_asym",
            "int8_asym",
            max_kl=0.05,
            take_over=True,
        ),
        Recipe("bf16", "the checkpoint's own weights, uncompressed", None, None, max_kl=0.01),
    )
}


def named(name: str) -> Recipe:
    """The recipe of that name. Raises ConversionError naming those that exist."""
    if name in RECIPES:
        return RECIPES[name]
    near = get_close_matches(name.lower(), RECIPES, n=1, cutoff=0.5)
    raise ConversionError(
        f"there is no recipe {name!r}",
        hint=(f"did you mean {near[0]!r}? " if near else "") + f"recipes: {', '.join(RECIPES)}",
    )
