"""The fields that Ollama's requests for a reply share."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from runtime.grammar.grammar import Grammar, JsonObject, JsonSchema
from runtime.model import Model
from runtime.sampling import Sampling

from ..errors import ApiError
from ..generation.fields import RequestModel
from ..generation.reply_format import ReplyFormat
from .options import OllamaOptions

KeepAlive = float | str
_DURATION = re.compile(r"([+-]?)((?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+|0)")  # Go's time.ParseDuration
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# Fields of other APIs that Ollama ignores. They would change the reply.
_MISPLACED = {
    "response_format": "send it as format",
    "tool_choice": "Ollama's API has none",
    "max_tokens": "send it as options.num_predict",
    "num_predict": "send it in options",
    "temperature": "send it in options",
    "top_p": "send it in options",
    "top_k": "send it in options",
    "seed": "send it in options",
    "stop": "send it in options",
}


class ModelRequest(RequestModel):
    """A request that names a model: the first one of the server without a name. `name` is an older name of the
    field."""

    model: str | None = None
    name: str | None = None

    @property
    def model_name(self) -> str | None:
        """The name of the model."""
        return self.model or self.name or None


class LoadingRequest(ModelRequest):
    """A request that loads a model. `keep_alive` is for how long it stays in memory after its last use: seconds, or a
    duration of Go's such as 5m; 0 unloads it after the request, a negative one keeps it for ever."""

    keep_alive: KeepAlive | None = None

    @model_validator(mode="after")
    def _check_keep_alive(self) -> Self:
        self.keep_alive_seconds()
        return self

    def keep_alive_seconds(self) -> float | None:
        """Return `keep_alive` in seconds: None for the server's own time, infinity for a negative one. Raises ApiError
        for text that is not a duration of Go, such as 5m or 1h30m."""
        return None if self.keep_alive is None else _parse_duration(self.keep_alive)


class ReplyRequest(LoadingRequest):
    """A request for a reply. It is streamed unless `stream` is false.

    `format` is "json" or a JSON schema. `think` turns the reasoning of a model that reasons on or off; where its chat
    template cannot turn it off, the reasoning is left out of the reply. A prompt that is longer than the context is
    rejected, unless a chat is to `truncate`; `shift` may only be false. `top_logprobs` counts only with `logprobs`.
    """

    stream: bool | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: OllamaOptions | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _reject_misplaced(cls, body: Any) -> Any:
        for name, cure in _MISPLACED.items():
            if isinstance(body, Mapping) and body.get(name) is not None:
                raise ApiError(400, f"{name} is not supported: {cure}", param=name, code="unsupported_parameter")
        return body

    @model_validator(mode="after")
    def _reject_unsupported(self) -> Self:
        if self.shift:
            message = "shift is not supported: a reply ends where the context is full; send false, or leave it out"
            raise ApiError(400, message, param="shift", code="unsupported_parameter")
        return self

    @property
    def reply_format(self) -> ReplyFormat | None:
        """The format of the reply; None for plain text."""
        return ReplyFormat("format", self.format, _to_grammar) if self.format else None

    def sampling(self, model: Model) -> Sampling:
        """Return the model's own sampling with the request's options. Raises RequestError."""
        options = self.options or OllamaOptions()
        return options.sampling(model.sampling, logprobs=bool(self.logprobs), top_logprobs=self.top_logprobs or 0)

    def template_variables(self, model: Model) -> dict[str, Any]:
        """Return the variables by which chat templates turn reasoning on and off. Raises ApiError for a model that
        does not reason, or has no levels of it."""
        if self.think is None:
            return {}
        if self.think and model.family.reasoning is None:
            message = f'"{self.model_name or model.source.manifest.source.name}" does not support thinking'
            raise ApiError(400, message, param="think", code="unsupported_parameter")
        variables: dict[str, Any] = {"enable_thinking": bool(self.think)}
        if isinstance(self.think, str):
            if "reasoning_effort" not in model.source.chat_template():
                message = f"think: this model has no level {self.think!r}; send true or false"
                raise ApiError(400, message, param="think", code="unsupported_parameter")
            variables["reasoning_effort"] = self.think
        return variables


def _to_grammar(value: Any) -> Grammar:
    return JsonObject() if value == "json" else JsonSchema.from_schema(value)


def _parse_duration(value: float | str) -> float:
    if isinstance(value, str):
        if not (found := _DURATION.fullmatch(value)):
            message = f"keep_alive: {value[:40]!r} is not a duration; send seconds, or text such as 5m"
            raise ApiError(400, message, param="keep_alive", code="invalid_value")
        sign = -1 if found[1] == "-" else 1
        value = sign * sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(found[2]))
    return value if value >= 0 else float("inf")
