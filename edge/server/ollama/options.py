"""The `options` of Ollama's requests: which are supported, which have no effect here, and which are rejected."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from runtime.sampling import Sampling

from ..errors import ApiError
from ..generation.fields import RequestModel, SamplingFields, Seed, merge_sampling, stop_texts

# Options of loading a model in Ollama, and those that it has removed. They change no reply of ours: the context is
# always the model's own, which /api/show returns, and `edge serve` decides the rest for all requests.
IGNORED = frozenset(
    "num_ctx num_keep num_batch num_gpu num_gqa num_thread main_gpu use_mmap use_mlock numa low_vram f16_kv logits_all "
    "vocab_only embedding_only draft_num_predict rope_frequency_base rope_frequency_scale penalize_newline "
    "mirostat_tau mirostat_eta".split()
)
# Samplers that the engines do not have, each with the values that turn it off.
_SAMPLERS: Mapping[str, Callable[[Any], bool]] = {
    "mirostat": lambda value: value == 0,
    "tfs_z": lambda value: value == 1,
    "typical_p": lambda value: value in (0, 1),
}


class OllamaOptions(RequestModel):
    """The sampling settings of a request, under Ollama's names: one that is left out keeps the checkpoint's value.

    `num_predict` is the limit of new tokens; 0 and less is none. `top_k` 0 and less is all tokens. A `seed` of -1 is a
    new one each time. `repeat_last_n` may be 0 (no repeat_penalty) or -1 (all tokens).
    """

    model_config = ConfigDict(extra="allow")

    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    repeat_last_n: Annotated[int, Field(ge=-1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    num_predict: Annotated[int, Field(lt=2**31)] | None = None
    seed: Seed | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None

    @model_validator(mode="after")
    def _reject_unsupported(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if value is None or name in IGNORED or (name in _SAMPLERS and _SAMPLERS[name](value)):
                continue
            message = f"options.{name} is not supported; leave it out"
            raise ApiError(400, message, param=f"options.{name}", code="unsupported_parameter")
        if (self.repeat_last_n or 0) > 0 and self.repeat_penalty not in (None, 1):
            raise ApiError(
                400,
                "options.repeat_last_n is not supported: repeat_penalty counts all tokens; send -1, or leave it out",
                param="options.repeat_last_n",
                code="unsupported_parameter",
            )
        return self

    def sampling(self, own: Sampling, *, logprobs: bool = False, top_logprobs: int = 0) -> Sampling:
        """Return the checkpoint's `own` sampling with these settings. Raises RequestError."""
        fields = SamplingFields(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=None if self.top_k is None else max(self.top_k, 0),
            min_p=self.min_p,
            repetition_penalty=1.0 if self.repeat_last_n == 0 else self.repeat_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
        )
        limit = self.num_predict or 0
        merged = merge_sampling(
            fields,
            own,
            max_new_tokens=limit if limit > 0 else None,
            stop=[text for text in stop_texts(self.stop) if text],
            seed=None if self.seed == -1 else self.seed,
            logprobs=logprobs,
        )
        return merged.override(top_logprobs=top_logprobs if logprobs else None)
