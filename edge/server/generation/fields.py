"""The fields that the APIs' requests share: their types, their limits, and the sampling settings."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runtime.sampling import Sampling

from ..errors import ApiError
from ..limits import Limits

FunctionName = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]
StopText = Annotated[str, Field(min_length=1, max_length=500)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
LIST_LIMIT = Field(max_length=10_000)  # while a list is validated; Limits has what is accepted
TokenCount = Annotated[int, Field(ge=1, lt=2**31)]


class RequestModel(BaseModel):
    """A part of a request. Unknown fields are ignored, as OpenAI ignores them."""

    model_config = ConfigDict(extra="ignore")


# Fields that constrain a reply, here or on other servers. Ignoring one would drop the constraint.
_FORMATS = (
    "response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
    "guided_json_object", "guided_whitespace_pattern", "structural_tag", "grammar", "grammar_lazy", "json_schema",
    "regex", "ebnf",
)  # fmt: skip


class SamplingFields(RequestModel):
    """The sampling settings of a request, under the names of `runtime.sampling.Sampling`: one that is left out keeps
    the checkpoint's value. `top_k`, `min_p` and `repetition_penalty` are not in OpenAI's
    API."""

    @model_validator(mode="before")
    @classmethod
    def _reject_other_formats(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        for name in _FORMATS:
            if body.get(name) and name not in cls.model_fields:
                cure = "constrain the reply by response_format (text.format in /v1/responses)"
                raise ApiError(400, f"{name} is not supported: {cure}", param=name, code="unsupported_parameter")
        return body

    model: str | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stream: bool | None = None


SAMPLING_FIELDS = tuple(field.name for field in fields(Sampling) if field.name in SamplingFields.model_fields)


def merge_sampling(
    body: SamplingFields,
    own: Sampling,
    *,
    max_new_tokens: int | None,
    stop: Sequence[str] = (),
    seed: int | None = None,
    logprobs: bool = False,
) -> Sampling:
    """Return the checkpoint's `own` sampling with the request's settings. Raises RequestError, and ApiError for
    `top_logprobs` without `logprobs`."""
    settings = {name: getattr(body, name) for name in SAMPLING_FIELDS}
    top = getattr(body, "top_logprobs", None)
    if top and not logprobs:
        message = "top_logprobs needs the log-probabilities of the tokens, too: ask for logprobs"
        raise ApiError(400, message, param="top_logprobs", code="invalid_value")
    if body.temperature is not None and body.temperature < 1e-4:
        settings["temperature"] = 0.0  # greedy: an engine would divide by almost zero
    if body.top_p is not None and body.top_p < 1e-6:
        settings["top_p"] = 0.0
    return own.override(
        **settings,
        max_new_tokens=max_new_tokens,
        seed=None if seed is None else seed % 2**31,
        stop=tuple(stop) or None,
        logprobs=logprobs,
        top_logprobs=top,
        logit_bias=parse_logit_bias(getattr(body, "logit_bias", None)),
    )


def parse_logit_bias(bias: Mapping[str, float] | None) -> dict[int, float] | None:
    """Return the biases by token id. Raises ApiError for a key that is none, or a bias out of range."""
    for key, value in (bias or {}).items():
        if not (key.isascii() and key.isdecimal() and len(key) < 10 and -100 <= value <= 100):
            message = "logit_bias maps token ids to numbers from -100 to 100"
            raise ApiError(400, f"{message}: {key[:20]!r} to {value}", param="logit_bias", code="invalid_value")
    return {int(key): value for key, value in bias.items()} if bias else None


def reply_count(n: int | None, limits: Limits) -> int:
    """Return the number of replies. Raises ApiError for more than are allowed."""
    if (n or 1) > limits.replies_per_request:
        raise ApiError(400, f"n may be at most {limits.replies_per_request}", param="n", code="invalid_value")
    return n or 1


def stop_texts(stop: str | Sequence[str] | None) -> Sequence[str]:
    """Return the stop strings as a list."""
    return [stop] if isinstance(stop, str) else stop or []
