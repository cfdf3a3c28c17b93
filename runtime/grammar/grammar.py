"""Grammars that constrain the sampler: a pattern, a choice, an EBNF, a JSON object, or JSON of a schema. Validated
before generation.

Whitespace is bounded everywhere (at most one blank between two JSON tokens), so that a weak model cannot stall in it:
the engine's own JSON grammar lets a model generate blanks for ever.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .. import strict_json
from ..checks import require, require_all
from ..errors import RequestError
from ..text import replace_json_surrogates, replace_surrogates, replace_surrogates_within
from .json_schema.validity import check_valid


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that matches a regular expression from its first to its last character. Raises RequestError for a pattern
    that is not valid.

    Example:
        chat.send("When did it happen?", answer=edge.Regex("[0-9]{4}-[0-9]{2}-[0-9]{2}"))
    """

    pattern: str

    def __post_init__(self) -> None:
        require("the regular expression", self.pattern, str, "text")
        object.__setattr__(self, "pattern", replace_surrogates(self.pattern))
        try:
            re.compile(self.pattern)
        except re.error as exc:
            raise RequestError(f"the regular expression is not valid: {exc}", hint="mend the pattern") from exc
        _refuse_inner_anchors(self.pattern)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some texts. Raises RequestError if there are none, or one is empty.

    Example:
        chat.send("Is that much?", answer=edge.Choice(("yes", "no")))
        chat.send("Is that much?", answer=["yes", "no"])  # the same
    """

    options: tuple[str, ...]

    def __post_init__(self) -> None:
        require_all("a choice's options", self.options, str, "a tuple of texts")
        object.__setattr__(self, "options", tuple(map(replace_surrogates, self.options)))
        if not self.options or not all(self.options):
            raise RequestError("a choice has no options, or an empty one", hint="pass at least one text")


@dataclass(frozen=True, slots=True)
class Ebnf:
    """Text that a context-free grammar generates from its rule `root`, in the EBNF of llama.cpp (GBNF) and xgrammar.

    Example:
        chat.send("What is half of 3?", answer=edge.Ebnf('root ::= "-"? [0-9]+ ("." [0-9]+)?'))
    """

    text: str

    def __post_init__(self) -> None:
        require("the grammar", self.text, str, "EBNF text")
        object.__setattr__(self, "text", replace_surrogates(self.text))


@dataclass(frozen=True, slots=True)
class JsonObject:
    """Any JSON object.

    Example:
        chat.send("Describe yourself as JSON.", answer=edge.JsonObject(), max_tokens=300)
    """


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that follows a schema, given as JSON text. Properties come in the schema's order.

    Raises RequestError for a schema that is not valid, and before anything is generated for one that is not supported.
    If it is not `strict`, any JSON object takes the place of a schema that is not supported. Its pattern is built when
    it is needed, which may take long, unless `built` has it.

    Example:
        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        chat.send("Where is the Eiffel Tower?", answer=edge.JsonSchema.from_schema(schema), max_tokens=100)
        chat.send("Where is the Eiffel Tower?", answer=schema, max_tokens=100)  # the same
    """

    schema: str
    strict: bool = True
    built: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        require("the schema", self.schema, str, "JSON text; JsonSchema.from_schema takes a dict")
        object.__setattr__(self, "schema", replace_json_surrogates(self.schema))
        _check_valid(self.schema)
        if self.strict:
            _check_supported(self.schema)

    @classmethod
    def from_schema(cls, schema: Mapping[str, Any], *, strict: bool = True) -> "JsonSchema":
        """Make the grammar of a schema that is a dict."""
        require("the schema", schema, Mapping, "a dict")
        try:
            text = json.dumps(replace_surrogates_within(schema), ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as exc:
            raise RequestError(f"the schema is not JSON: {exc}", hint="send a JSON schema") from exc
        return cls(text, strict)

    def pattern(self) -> str:
        """Return the schema as a regular expression. Raises RequestError if there is none for it."""
        return self.built or _schema_pattern(self.schema)


Grammar = Regex | Choice | Ebnf | JsonObject | JsonSchema

AnswerLike = Grammar | Mapping[str, Any] | Sequence[str] | type[Any]
"""A grammar, or what stands for one: a JSON schema as a dict, OpenAI's `response_format`, a pydantic model, or a list
of texts to choose from.

Example:
    from pydantic import BaseModel

    class Place(BaseModel):
        city: str

    chat.send("Where is the Eiffel Tower?", answer=Place, max_tokens=100)
"""


def to_grammar(answer: AnswerLike | None) -> Grammar | None:
    """Return the grammar of an answer. Raises RequestError for what is none, or for an unsupported schema."""
    if answer is None or isinstance(answer, Grammar):
        return answer
    if isinstance(answer, type) and callable(schema := getattr(answer, "model_json_schema", None)):
        return JsonSchema.from_schema(schema())
    if isinstance(answer, list | tuple):
        return Choice(tuple(answer))
    require("answer", answer, Mapping, "a grammar such as Regex or JsonSchema, a JSON schema or a pydantic model")
    assert isinstance(answer, Mapping)
    match answer.get("type"):
        case "json_schema":
            inner = answer.get("json_schema", answer)
            if not isinstance(inner, Mapping) or "schema" not in inner:
                raise RequestError("the response format json_schema has no schema", hint="put the schema under schema")
            return JsonSchema.from_schema(inner["schema"])
        case "json_object":
            return JsonSchema.from_schema(answer["schema"]) if "schema" in answer else JsonObject()
        case "text":
            return None
    return JsonSchema.from_schema(answer)


# JSON of RFC 8259, in the notation that xgrammar, llguidance and llama.cpp share.
JSON_STRING = r"""string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" hex hex hex hex))* "\""
"""
JSON_OBJECT = (
    r"""root ::= object
object ::= "{" (blank pair (blank "," blank pair)*)? blank "}"
pair ::= string blank ":" blank value
array ::= "[" (blank value (blank "," blank value)*)? blank "]"
value ::= object | array | string | number | "true" | "false" | "null"
hex ::= [0-9a-fA-F]
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
blank ::= " "?
"""
    + JSON_STRING
)

_HELD = {
    "type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "enum",
    "const", "anyOf", "oneOf", "minLength", "maxLength", "pattern", "format", "$ref", "$defs", "definitions",
}  # fmt: skip
_SAYS_NOTHING = {
    "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly", "$schema", "$id",
    "$comment", "strict", "discriminator",
}  # fmt: skip
_FORMATS = {"date", "time", "date-time", "uuid"}


def check_schema(schema: Any, where: str = "the schema") -> None:
    """Raise RequestError that names the first unsupported keyword."""
    if schema is True or schema == {}:
        return
    if not isinstance(schema, Mapping):
        raise RequestError(f"{where} is not a JSON schema", hint="it has to be an object")
    for key, value in schema.items():
        if key not in _HELD and key not in _SAYS_NOTHING:
            raise RequestError(
                f"{where} has the keyword {key!r}, which is not supported",
                hint="leave it out, or check the reply yourself",
            )
        if key == "format" and value not in _FORMATS:
            raise RequestError(
                f"{where} has the format {value!r}, which is not supported",
                hint=f"these can: {', '.join(sorted(_FORMATS))}",
            )
        if key == "pattern" and isinstance(value, str):
            _refuse_inner_anchors(value)
        if key == "$ref" and not str(value).startswith("#/"):
            raise RequestError(f"{where} refers to {value!r}, outside itself", hint="put it into $defs")
        if key in ("properties", "$defs", "definitions") and isinstance(value, Mapping):
            for name, item in value.items():
                check_schema(item, f"{where}: {name}")
        elif key in ("anyOf", "oneOf", "prefixItems") and isinstance(value, list):
            for item in value:
                check_schema(item, f"{where}: {key}")
        elif key in ("items", "additionalProperties") and not isinstance(value, bool):
            check_schema(value, f"{where}: {key}")


@lru_cache(maxsize=256)
def _check_valid(text: str) -> None:
    try:
        schema = strict_json.parse(text)
    except ValueError as exc:
        raise RequestError(f"the schema is not valid JSON: {exc}", hint="send a JSON schema") from exc
    check_valid(schema)


@lru_cache(maxsize=256)
def _check_supported(text: str) -> None:
    schema = strict_json.parse(text)
    try:
        check_schema(schema)
        _refuse_recursion(schema)
    except RecursionError as exc:
        raise RequestError("the schema is nested too deeply", hint="have fewer $refs follow from one another") from exc


@lru_cache(maxsize=256)
def _schema_pattern(text: str) -> str:
    from outlines_core.json_schema import build_regex_from_schema

    _check_supported(text)
    try:
        pattern = build_regex_from_schema(text)
    except (ValueError, TypeError) as exc:
        first = str(exc).strip().splitlines()[0]
        raise RequestError(f"unsupported JSON schema: {first}", hint="simplify it") from exc
    _refuse_inner_anchors(str(pattern))
    # The engine takes no ranges beyond ASCII here; and a weak model writes digits for ever if it may.
    return str(pattern).replace(r"\x00-\x1F\x7F-\x9F", r"\x00-\x1F").replace("[0-9]*", "[0-9]{0,17}")


# An escape, a character class (of which a bracket may be the first member), or an anchor.
_ANCHORS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|([\^$])", re.DOTALL)


def _refuse_inner_anchors(pattern: str) -> None:
    """Raise RequestError for an anchor inside the pattern, which matches whole texts. xgrammar would ignore it, with a
    warning on stderr."""
    for match in _ANCHORS.finditer(pattern):
        if (match[1] == "^" and match.start() > 0) or (match[1] == "$" and match.end() < len(pattern)):
            raise RequestError(
                f"{match[1]} is not supported inside a pattern",
                hint="leave it out: a pattern matches the whole text anyway",
            )


def _refuse_recursion(schema: Mapping[str, Any]) -> None:
    """Raise RequestError for a schema that refers to itself: a regular expression cannot nest without end."""
    followed: set[str] = set()  # each reference is followed once, however often it is made

    def follow(value: Any, open_refs: tuple[str, ...]) -> None:
        if isinstance(value, list):
            for item in value:
                follow(item, open_refs)
        if not isinstance(value, Mapping):
            return
        ref = value.get("$ref")
        if isinstance(ref, str):
            if ref in open_refs:
                raise RequestError(f"the schema's {ref} refers to itself", hint="unroll it to the depth you need")
            if ref not in followed:
                target: Any = schema
                for step in ref.removeprefix("#/").split("/"):
                    target = target.get(step) if isinstance(target, Mapping) else None
                if target is None:
                    raise RequestError(
                        f"the schema refers to {ref}, which it does not define", hint="put it into $defs"
                    )
                follow(target, (*open_refs, ref))
                followed.add(ref)
        for key, item in value.items():
            if key not in ("$defs", "definitions"):
                follow(item, open_refs)

    follow(schema, ())
