"""Sampling settings: how the next token is chosen, and how many there may be."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .checks import require, require_all, require_integer, require_number
from .errors import RequestError
from .text import replace_surrogates


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of a reply.

    `temperature` 0 is greedy decoding. `seed` None is a different seed every time; `max_new_tokens` None is what the
    context holds. The answer ends before the first of the `stop` strings; reasoning and calls are not searched for
    them.

    `presence_penalty` is subtracted from the logit of each token generated before, `frequency_penalty` once for every
    time it was; tokens of the prompt do not count. `logprobs` adds Logprobs events to the answer. An engine that does
    not support a setting rejects it by name (UnsupportedSetting).

    Raises RequestError for a value out of range or of the wrong type.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: bool = False

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
            require_number(name, getattr(self, name))
        require_integer("top_k", self.top_k, 0, 2**31 - 1)
        if self.max_new_tokens is not None:
            require_integer("max_new_tokens", self.max_new_tokens, 1)
        if self.seed is not None:
            require_integer("seed", self.seed, 0, 2**63 - 1)
        require("logprobs", self.logprobs, bool, "True or False")
        require_all("stop", self.stop, str, "a tuple of texts")
        object.__setattr__(self, "stop", tuple(map(replace_surrogates, self.stop)))
        for name, ok, wanted in (
            ("temperature", 0 <= self.temperature <= 5, "0 (greedy) to 5"),
            ("top_p", 0 < self.top_p <= 1, "more than 0, at most 1"),
            ("repetition_penalty", 0 < self.repetition_penalty <= 10, "more than 0, at most 10"),
            ("presence_penalty", -2 <= self.presence_penalty <= 2, "-2 to 2"),
            ("frequency_penalty", -2 <= self.frequency_penalty <= 2, "-2 to 2"),
            ("stop", all(self.stop), "texts that are not empty"),
        ):
            if not ok:
                raise RequestError(f"{name} is {getattr(self, name)}", hint=f"it may be {wanted}")

    def override(self, **settings: Any) -> "Sampling":
        """Return a copy with these settings; those that are None stay as they are."""
        return replace(self, **{name: value for name, value in settings.items() if value is not None})

    @classmethod
    def from_generation_config(cls, generation_config: Mapping[str, Any]) -> "Sampling":
        """Return the settings of a checkpoint's generation_config.json; greedy if it does not sample."""
        if not generation_config.get("do_sample", False):
            return cls(repetition_penalty=float(generation_config.get("repetition_penalty") or 1.0))
        return cls(
            temperature=float(generation_config.get("temperature") or 1.0),
            top_p=float(generation_config.get("top_p") or 1.0),
            top_k=int(generation_config.get("top_k") or 0),
            repetition_penalty=float(generation_config.get("repetition_penalty") or 1.0),
        )
