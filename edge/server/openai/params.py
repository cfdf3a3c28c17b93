"""What a client asks a model, in our own terms: the parts that OpenAI's two chat APIs share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runtime.cancellation import Cancellation
from runtime.errors import UnsupportedGrammar
from runtime.grammar import Grammar, JsonObject, JsonSchema
from runtime.messages import Message
from runtime.model import Model
from runtime.reply.generation import Constraint
from runtime.sampling import Sampling

from ..errors import ApiError
from ..limits import Limits
from .schema_limits import check_enforceable

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
StopText = Annotated[str, Field(min_length=1, max_length=500)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
LIST_LIMIT = Field(max_length=10_000)  # of a list, before it is looked at; Limits has what is taken
TokenCount = Annotated[int, Field(ge=1, lt=2**31)]


class RequestModel(BaseModel):
    """Fields that are not known are passed over, as OpenAI does."""

    model_config = ConfigDict(extra="ignore")


# What constrains a reply on other servers. To ignore it would be to answer with what was not asked for.
_OTHER_SERVERS = (
    "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "grammar", "json_schema",
    "regex", "ebnf",
)  # fmt: skip


class SamplingFields(RequestModel):
    """What is left out is the checkpoint's own. `top_k` and `repetition_penalty` are not OpenAI's."""

    @model_validator(mode="before")
    @classmethod
    def _reject_other_formats(cls, body: Any) -> Any:
        if isinstance(body, dict) and (name := next((name for name in _OTHER_SERVERS if body.get(name)), None)):
            cure = "constrain the reply by response_format (text.format in /v1/responses)"
            raise ApiError(400, f"{name} is not supported: {cure}", param=name, code="unsupported_parameter")
        return body

    model: str | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(ge=1e-6, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stream: bool | None = None


class JsonSchemaFormat(RequestModel):
    name: FunctionName
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the client runs. `strict` holds each call to its schema while it is written."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool
    param: str  # where the request has its schema

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "parameters": self.parameters}


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """`choice` is "auto", "none", "required" or a tool's name."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    sampling: Sampling
    constraint: Constraint
    answer_param: str

    def admit(self, model: Model, cancellation: Cancellation) -> None:
        """Raises ApiError for a grammar that the engine rejects, or takes too long to compile."""
        for grammar in self.constraint.grammars():
            try:
                model.backend.admit(grammar, cancellation)
            except UnsupportedGrammar as exc:
                raise self.to_api_error(exc) from exc

    def to_api_error(self, exc: UnsupportedGrammar) -> ApiError:
        """The answer where the engine does not take a grammar: it names the field that asks for it."""
        held = self.constraint.arguments
        tool = next((tool for tool in self.tools if held.get(tool.name) == exc.grammar), None)
        param = tool.param if tool and exc.grammar != self.constraint.answer else self.answer_param
        return ApiError(400, f"{exc}; {exc.hint}", param=param, code="invalid_value")

    @classmethod
    def create(
        cls,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        choice: str,
        answer: Grammar | None,
        sampling: Sampling,
        *,
        parallel: bool,
        answer_param: str,
    ) -> "GenerationParams":
        """Raises RequestError where the tools or the choice cannot be held."""
        names = [tool.name for tool in tools]
        if len(set(names)) < len(names):
            raise ApiError(400, "two tools share a name", param="tools", code="invalid_value")
        offered = () if choice == "none" else tuple(tools)
        constraint = Constraint.for_tools([tool.to_json() for tool in offered], choice)
        held = {tool.name: JsonSchema.of(tool.parameters) for tool in offered if tool.strict}
        constraint = replace(constraint, arguments={**constraint.arguments, **held}, one_call=not parallel)
        if answer is not None and not constraint.must_call:
            constraint = replace(constraint, answer=answer, may_call=tuple(tool.name for tool in offered))
        return cls(tuple(messages), offered, sampling, constraint, answer_param)

    def with_seed_offset(self, index: int) -> "GenerationParams":
        """The same for another of several replies."""
        seed = self.sampling.seed
        return self if seed is None else replace(self, sampling=replace(self.sampling, seed=(seed + index) % 2**31))


def merge_sampling(
    fields: SamplingFields,
    own: Sampling,
    limit: int | None,
    stop: Sequence[str],
    seed: int | None,
    *,
    logprobs: bool = False,
) -> Sampling:
    cold = fields.temperature is not None and fields.temperature < 1e-4  # to the engine, a division by nothing
    return own.override(
        temperature=0.0 if cold else fields.temperature,
        top_p=fields.top_p,
        top_k=fields.top_k,
        repetition_penalty=fields.repetition_penalty,
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        max_new_tokens=limit,
        seed=None if seed is None else seed % 2**31,
        stop=tuple(stop),
        logprobs=logprobs,
    )


def response_grammar(
    kind: Literal["text", "json_object", "json_schema"], schema: Mapping[str, Any] | None, limits: Limits, param: str
) -> Grammar | None:
    """The grammar of a response format."""
    match kind:
        case "text":
            return None
        case "json_object" if schema is None:
            return JsonObject()
    if schema is None:
        raise ApiError(400, "a JSON schema is missing", param=param, code="missing_required_parameter")
    check_enforceable(schema, limits, param)
    return JsonSchema.of(schema)
