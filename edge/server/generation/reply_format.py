"""The format of a reply: OpenAI's `response_format`, and what vLLM, llama.cpp and SGLang have in its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from runtime.errors import RequestError
from runtime.grammar.grammar import Choice, Ebnf, Grammar, JsonObject, JsonSchema, Regex

from ..errors import ApiError
from ..limits import Limits
from .dialects import translate
from .fields import LIST_LIMIT, FunctionName, RequestModel, SamplingFields
from .schema_limits import check_size

Schema = dict[str, Any]
SchemaOrText = Schema | str


class TextFormat(RequestModel):
    """Text, or any JSON object. `schema` beside "json_object" is llama.cpp's name for a json_schema."""

    type: Literal["text", "json_object"]
    json_schema: Schema | None = Field(None, alias="schema")


class NamedSchema(RequestModel):
    """A JSON schema that the reply has to match."""

    name: FunctionName
    description: str | None = None
    json_schema: Schema | None = Field(None, alias="schema")
    strict: bool | None = None


class SchemaFormat(RequestModel):
    """JSON that matches a schema. `schema` in place of `json_schema` is llama.cpp's."""

    type: Literal["json_schema"]
    json_schema: NamedSchema | None = None
    plain_schema: Schema | None = Field(None, alias="schema")


class FlatSchemaFormat(NamedSchema):
    """JSON that matches a schema."""

    type: Literal["json_schema"]


ChatFormat = Annotated[TextFormat | SchemaFormat, Field(discriminator="type")]
FlatFormat = Annotated[TextFormat | FlatSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(RequestModel):
    """vLLM's constraints of a reply, of which a request has one. The last four are not supported."""

    model_config = ConfigDict(extra="forbid")

    json_schema: SchemaOrText | None = Field(None, alias="json")
    regex: str | None = None
    choice: Annotated[list[str], LIST_LIMIT] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_fallback: bool | None = None
    structural_tag: Any = None
    whitespace_pattern: Any = None
    disable_any_whitespace: Any = None
    disable_additional_properties: Any = None


class FormatFields(SamplingFields):
    """The fields of other servers: `structured_outputs` and `guided_…` are vLLM's, `grammar` and `json_schema`
    llama.cpp's, `regex` and `ebnf` SGLang's."""

    structured_outputs: StructuredOutputs | None = None
    guided_json: SchemaOrText | None = None
    guided_regex: str | None = None
    guided_choice: Annotated[list[str], LIST_LIMIT] | None = None
    guided_grammar: str | None = None
    guided_json_object: bool | None = None
    grammar: str | None = None
    json_schema: SchemaOrText | None = None
    regex: str | None = None
    ebnf: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _translate(cls, body: Any) -> Any:
        return translate(cls._merge_extra_body(body), cls.model_fields) if isinstance(body, dict) else body

    @staticmethod
    def _merge_extra_body(body: dict[str, Any]) -> dict[str, Any]:
        """Put the fields of `extra_body` where the openai package puts them."""
        if not isinstance(extra := body.get("extra_body"), dict):
            return body
        if twice := next((name for name in extra if name in body and body[name] != extra[name]), None):
            raise ApiError(400, f"{twice} is also in extra_body: send one", param=twice, code="invalid_value")
        return extra | body

    def reply_format(self, own: "ReplyFormat | None") -> "ReplyFormat | None":
        """Return the format of the reply: its `own`, from the field that OpenAI has for it, or that of another field;
        None for plain text. Raises ApiError for two formats, or for one that is not supported."""
        found = [*([own] if own else ()), *self._other_formats()]
        if len(found) > 1:
            first, second = (form.param for form in found[:2])
            raise ApiError(
                400, f"{first} and {second} both constrain the reply: send one", param=second, code="invalid_value"
            )
        return found[0] if found else None

    def _other_formats(self) -> list["ReplyFormat"]:
        found = []
        values = [*_values(self), *_values(self.structured_outputs, "structured_outputs.")]
        for name, value in values:
            if value is None or value is False or value == "":  # llama.cpp's clients send an empty grammar for none
                continue
            if name in _GRAMMARS:
                found.append(ReplyFormat(name, value, _GRAMMARS[name]))
            elif name in _UNSUPPORTED:
                raise ApiError(400, f"{name} is not supported", param=name, code="unsupported_parameter")
        return found


def _values(fields: RequestModel | None, prefix: str = "") -> list[tuple[str, Any]]:
    """The names of a request's fields, as it has them, and their values."""
    if fields is None:
        return []
    known = type(fields).model_fields
    return [(f"{prefix}{field.alias or name}", getattr(fields, name)) for name, field in known.items()]


@dataclass(frozen=True, slots=True)
class ReplyFormat:
    """The format of a reply: the value of the request's field `param`, and what makes a grammar of it."""

    param: str
    value: Any
    to_grammar: Callable[[Any], Grammar]

    def grammar(self, limits: Limits) -> Grammar:
        """Return the grammar. Raises ApiError if it is too large, invalid or not supported."""
        check_size(self.value, limits, self.param)
        try:
            return self.to_grammar(self.value)
        except RequestError as exc:
            raise ApiError(400, f"{exc}; {exc.hint}", param=self.param, code="invalid_value") from exc


def own_format(form: TextFormat | SchemaFormat | FlatSchemaFormat | None, param: str) -> ReplyFormat | None:
    """Return the format in OpenAI's field `param`; None for plain text. Raises ApiError if a schema is missing."""
    match form:
        case None | TextFormat(type="text"):
            return None
        case TextFormat(json_schema=None):
            return ReplyFormat(param, None, _to_json_object)
        case SchemaFormat(json_schema=NamedSchema(json_schema=schema)):
            param = f"{param}.json_schema"
        case SchemaFormat(plain_schema=schema) | TextFormat(json_schema=schema) | FlatSchemaFormat(json_schema=schema):
            pass
    if schema is None:
        raise ApiError(400, "the JSON schema is missing", param=f"{param}.schema", code="missing_required_parameter")
    return ReplyFormat(f"{param}.schema", schema, _to_schema)


def _to_schema(schema: SchemaOrText) -> Grammar:
    return JsonSchema(schema) if isinstance(schema, str) else JsonSchema.from_schema(schema)


def _to_choice(options: list[str]) -> Grammar:
    return Choice(tuple(options))


def _to_json_object(_: object) -> Grammar:
    return JsonObject()


_GRAMMARS: Mapping[str, Callable[[Any], Grammar]] = {
    "structured_outputs.json": _to_schema,
    "structured_outputs.regex": Regex,
    "structured_outputs.choice": _to_choice,
    "structured_outputs.grammar": Ebnf,
    "structured_outputs.json_object": _to_json_object,
    "guided_json": _to_schema,
    "guided_regex": Regex,
    "guided_choice": _to_choice,
    "guided_grammar": Ebnf,
    "guided_json_object": _to_json_object,
    "grammar": Ebnf,
    "json_schema": _to_schema,
    "regex": Regex,
    "ebnf": Ebnf,
}
_UNSUPPORTED = frozenset(
    f"structured_outputs.{name}"
    for name in ("structural_tag", "whitespace_pattern", "disable_any_whitespace", "disable_additional_properties")
)
