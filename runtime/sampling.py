"""Sampling settings: how the next token is chosen, and how many there may be.

`Sampling` is what an application or a checkpoint asks for, `SamplingParams` what an engine is given: a value for each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Self, TypedDict

from .checks import require, require_all, require_integer, require_number
from .errors import RequestError
from .text import replace_surrogates

MAX_TOP_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """The settings of a reply as an engine applies them. The fields are those of Sampling.

    Raises RequestError for a value out of range or of the wrong type.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    prompt_logprobs: bool = False

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
            require_number(name, getattr(self, name))
        require_integer("top_k", self.top_k, 0, 2**31 - 1)
        if self.max_new_tokens is not None:
            require_integer("max_new_tokens", self.max_new_tokens, 0 if self.prompt_logprobs else 1)
        if self.seed is not None:
            require_integer("seed", self.seed, 0, 2**63 - 1)
        for name in ("logprobs", "prompt_logprobs"):
            require(name, getattr(self, name), bool, "True or False")
        require_integer("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS)
        object.__setattr__(self, "logprobs", self.logprobs or (self.top_logprobs > 0 and not self.prompt_logprobs))
        object.__setattr__(self, "logit_bias", _sorted_bias(self.logit_bias))
        require_all("stop", self.stop, str, "a list of texts")
        object.__setattr__(self, "stop", tuple(map(replace_surrogates, self.stop)))
        for name, ok, wanted in (
            ("temperature", 0 <= self.temperature <= 5, "0 (greedy) to 5"),
            ("top_p", 0 <= self.top_p <= 1, "0 to 1"),
            ("min_p", 0 <= self.min_p <= 1, "0 to 1"),
            ("repetition_penalty", 0 < self.repetition_penalty <= 10, "more than 0, at most 10"),
            ("presence_penalty", -2 <= self.presence_penalty <= 2, "-2 to 2"),
            ("frequency_penalty", -2 <= self.frequency_penalty <= 2, "-2 to 2"),
            ("stop", all(self.stop), "texts that are not empty"),
        ):
            if not ok:
                raise RequestError(f"{name} is {getattr(self, name)}", hint=f"it may be {wanted}")

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always chosen: at temperature 0, or if top_p or min_p excludes others."""
        return self.temperature == 0 or self.top_p == 0 or self.min_p == 1


class SamplingSettings(TypedDict, total=False):
    """The settings that a call takes as keywords: those of Sampling. `max_tokens` is OpenAI's name of `max_new_tokens`.

    Example:
        chat.send("Write a haiku.", temperature=0.8, max_tokens=60)
    """

    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None
    max_new_tokens: int | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[int, float] | None
    logprobs: bool | None
    top_logprobs: int | None
    prompt_logprobs: bool | None


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of a reply. One that is None is the checkpoint's own, and where the checkpoint has none, the default.

    - `temperature`: 0 to 5; 0, the default, is greedy decoding.
    - `top_p`: sample from the most probable tokens whose probabilities add up to it; 0 (greedy) to 1 (default).
    - `top_k`: sample from so many of the most probable tokens; 0, the default, from all.
    - `min_p`: sample from tokens that are at least so probable, as a share of the most probable one; 0 (default) to 1.
    - `repetition_penalty`: divides the positive logits of tokens seen before, and multiplies the negative ones; more
      than 0, at most 10, default 1.
    - `seed`: makes a reply reproducible; by default it is different every time.
    - `max_new_tokens`: the limit of the whole reply, reasoning and calls included; by default what the context holds.
    - `stop`: the answer ends before the first of these texts; reasoning and calls are not searched for them.
    - `presence_penalty`: -2 to 2, subtracted from the logit of each token generated before; `frequency_penalty`: once
      for every time it was. Tokens of the prompt do not count.
    - `logit_bias`: -100 to 100, by token id: added to the logit of that token.
    - `logprobs`: adds Logprobs events to the answer; `prompt_logprobs`: PromptLogprobs events before it, and
      `max_new_tokens` may be 0.
    - `top_logprobs`: so many of the most probable tokens beside each of those; 0 (default) to 20.

    An engine that does not support a setting rejects it by name (UnsupportedSetting). Raises RequestError for a value
    out of range or of the wrong type.

    Example:
        chat.send("Write a haiku.", sampling=edge.Sampling(temperature=0.8, seed=7))
        chat.send("Write a haiku.", temperature=0.8, seed=7)  # the same
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    max_new_tokens: int | None = None
    stop: str | Sequence[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    prompt_logprobs: bool | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        params = self.resolve()
        if self.stop is not None:
            object.__setattr__(self, "stop", params.stop)

    def resolve(self) -> SamplingParams:
        """Return the settings for an engine, with the defaults of those that are None."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return SamplingParams(**{name: value for name, value in given.items() if value is not None})

    def override(self, **settings: Any) -> "Sampling":
        """Return a copy with these settings; those that are None stay as they are."""
        return replace(self, **{name: value for name, value in settings.items() if value is not None})

    def merge(self, over: Self | None) -> "Sampling":
        """Return a copy with the settings of `over` that are not None."""
        return self if over is None else self.override(**asdict(over))

    @classmethod
    def from_settings(cls, settings: SamplingSettings) -> "Sampling | None":
        """Return the settings given as keywords, None if there are none. Raises RequestError for an unknown one."""
        given: dict[str, Any] = dict(settings)
        if not given:
            return None
        known = SamplingSettings.__annotations__
        for name in given:
            if name not in known:
                close = get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"these exist: {', '.join(known)}"
                raise RequestError(f"there is no setting {name}", hint=hint)
        if (limit := given.pop("max_tokens", None)) is not None:
            if given.get("max_new_tokens") is not None:
                raise RequestError("max_tokens and max_new_tokens are the same setting", hint="leave one of them out")
            given["max_new_tokens"] = limit
        return cls(**given)

    @classmethod
    def from_generation_config(cls, generation_config: Mapping[str, Any]) -> "Sampling":
        """Return the settings of a checkpoint's generation_config.json; greedy if it does not sample.

        Zeros are values, as in transformers; null leaves a setting out. Raises RequestError for a value out of range,
        TypeError, ValueError or OverflowError for one that is not a number.
        """
        found = {
            name: kind(generation_config[name])
            for name, kind in _GENERATION_CONFIG.items()
            if generation_config.get(name) is not None
        }
        if not generation_config.get("do_sample"):
            return cls(repetition_penalty=found.get("repetition_penalty"))
        return cls(**{"temperature": 1.0} | found)

    def recommended(self) -> dict[str, int | float]:
        """Return the settings that a generation_config.json can have, without those that are None."""
        return {name: value for name in _GENERATION_CONFIG if (value := getattr(self, name)) is not None}


def _sorted_bias(bias: Any) -> tuple[tuple[int, float], ...]:
    """Validate a mapping of token ids to biases, or its items, and return the items sorted by id."""
    items = tuple(bias.items()) if isinstance(bias, Mapping) else bias
    require_all("logit_bias", items, tuple, "a dict of token ids and numbers")
    for token, value in items:
        require_integer("a token id of logit_bias", token, 0, 2**31 - 1)
        require_number("logit_bias", value)
        if not -100 <= value <= 100:
            raise RequestError(f"logit_bias is {value}", hint="it may be -100 to 100")
    return tuple(sorted(items))


_GENERATION_CONFIG: Mapping[str, Callable[[Any], Any]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
}


def merge_settings(sampling: Sampling | None, settings: SamplingSettings) -> Sampling | None:
    """Return the settings of a call: `sampling` with its keywords over it. Raises RequestError."""
    require("sampling", sampling, Sampling | None, "a Sampling, such as edge.Sampling(temperature=0.7)")
    keywords = Sampling.from_settings(settings)
    return keywords if sampling is None else sampling.merge(keywords)
