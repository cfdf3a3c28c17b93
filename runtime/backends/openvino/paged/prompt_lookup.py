"""Prompt lookup: how many tokens a step drafts, by how often drafts were accepted.

GenAI searches the prompt and the reply for the last words of the reply, and drafts what followed them. It pads a draft
to the length that the request names: a step costs the same, whatever was found. A request without any draft is
rejected by a pipeline that looks up, so whether it does is decided when the model is loaded, and a reply for which
nothing is found still drafts one token.

A sampled token is drawn from the model's own distribution, with one random number, and compared with the draft: the
text of a seed stays the same. GenAI's draft models do otherwise, so they are not used.
"""

from typing import Any

from ....device.machine import detect_isa
from ....folder.model_folder import ModelFolder
from ...backend import Options

# Tokens that a guess goes by: the last so many, or fewer where those do not stand anywhere before.
NGRAM = 3

# What a step costs by the tokens that it drafts, in steps of a single token: 9B's width, int4, one thread, AVX512-VNNI
# (`python -m benchmarks.lookup FOLDER`). A step of nine tokens costs 1.43, of thirteen 2.1.
_COSTS = {1: 1.035, 2: 1.05, 4: 1.13, 6: 1.19}
# With the int4 kernel, in a model of few layers (`python -m benchmarks.int4_kernel FOLDER --drafts`). At 40 layers such
# steps cost 1.05, 1.14, 1.45 and 1.94 on two threads, 1.07, 1.43, 1.84 and 2.45 on one.
_KERNEL_COSTS = {1: 1.24, 2: 1.42, 4: 1.68, 6: 1.86}
_LONGEST = max(_COSTS)
_ISA = "AVX512-VNNI"

_FIRST = 0.3, 0.6  # the share of drafts whose first token is accepted, and of accepted ones whose next is, at first
_WEIGHT = 1 / 32  # of a step, in the shares


class DraftLength:
    """How many tokens a step drafts: so many, or by what was accepted if it is None."""

    def __init__(self, fixed: int | None, *, kernel: bool = False) -> None:
        self._fixed = fixed
        self._costs = _KERNEL_COSTS if kernel else _COSTS
        self._accepted: dict[bool, list[float]] = {}

    @classmethod
    def of(cls, folder: ModelFolder, device: str, options: Options, *, kernel: bool = False) -> "DraftLength":
        """Return that of a model that is loaded with these options, and with our int4 kernel or without it."""
        if options.lookup != "auto":
            return cls(options.lookup)
        pays = (
            options.running == 1
            and device == "CPU"
            and folder.manifest.recipe.startswith(("int4", "int8"))
            and not folder.manifest.vision
            and options.activation_group != 0  # a step of four costs 1.8 then
            and _ISA in detect_isa()
        )
        return cls(None if pays else 0, kernel=kernel)

    @property
    def longest(self) -> int:
        """The most tokens that a step drafts; 0 without prompt lookup."""
        return _LONGEST if self._fixed is None else self._fixed

    def choose(self, *, constrained: bool, alone: bool) -> int:
        """Return how many tokens a reply drafts in a step. `constrained` is one with a grammar; `alone` is one beside
        which no other is generated."""
        if self._fixed is not None:
            return self._fixed
        return max(self._costs, key=lambda length: self._gain(length, constrained)) if alone else min(self._costs)

    def record(self, length: int, tokens: int, *, constrained: bool) -> None:
        """Learn from a step that drafted `length` tokens and brought so many."""
        if self._fixed is not None or not 0 < tokens <= length + 1:  # several steps were read at once
            return
        shares = self._shares(constrained)
        for index, share in enumerate(shares):
            if index < tokens - 1:
                found = 1.0
            elif tokens <= length:
                found = 0.0
            else:  # it would have gone on as it does on average
                next_share = min(shares[length - 1] / shares[length - 2], 1.0) if length > 1 else _FIRST[1]
                found = next_share ** (index + 1 - length)
            shares[index] = share + _WEIGHT * (found - share)

    def _shares(self, constrained: bool) -> list[float]:
        """Return the shares of steps in which at least one drafted token was accepted, at least two, and so on."""
        first = [_FIRST[0] * _FIRST[1] ** index for index in range(_LONGEST)]
        return self._accepted.setdefault(constrained, first)

    def _gain(self, length: int, constrained: bool) -> float:
        return (1 + sum(self._shares(constrained)[:length])) / self._costs[length]


def with_lookup(config: Any, length: int) -> Any:
    """Return GenAI's settings with prompt lookup of so many tokens, if any."""
    if length:
        config.num_assistant_tokens, config.max_ngram_size = length, NGRAM
    return config
