"""Grammars that constrain the sampler: a pattern, a choice, an EBNF, a JSON object, or JSON of a schema. Validated
before generation.

Whitespace is bounded everywhere (at most one blank between two JSON tokens), so that a weak model cannot stall in it:
the engine's own JSON grammar lets a model generate blanks for ever.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .. import strict_json
from ..checks import require, require_all
from ..errors import RequestError
from ..text import replace_json_surrogates, replace_surrogates, replace_surrogates_within
from .budget import STEPS, budget
from .json_schema.validity import check_valid
from .regular.pattern import matched
from .tree import NOTHING, Tree, choice, literal, raw


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that matches a regular expression, in JavaScript's syntax, from its first to its last character. Raises
    RequestError for a pattern that is not valid, or uses what is not regular, such as a back reference.

    Example:
        chat.send("When did it happen?", answer=edge.Regex("[0-9]{4}-[0-9]{2}-[0-9]{2}"))
    """

    pattern: str

    def __post_init__(self) -> None:
        require("the regular expression", self.pattern, str, "text")
        object.__setattr__(self, "pattern", replace_surrogates(self.pattern))
        with budget(STEPS):
            matched(self.pattern)


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
    If it is not `strict`, any JSON object takes the place of a schema that is not supported.

    Example:
        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        chat.send("Where is the Eiffel Tower?", answer=edge.JsonSchema.from_schema(schema), max_tokens=100)
        chat.send("Where is the Eiffel Tower?", answer=schema, max_tokens=100)  # the same
    """

    schema: str
    strict: bool = True

    def __post_init__(self) -> None:
        require("the schema", self.schema, str, "JSON text; JsonSchema.from_schema takes a dict")
        object.__setattr__(self, "schema", replace_json_surrogates(self.schema))
        _check_valid(self.schema)

    @classmethod
    def from_schema(cls, schema: Mapping[str, Any], *, strict: bool = True) -> "JsonSchema":
        """Make the grammar of a schema that is a dict."""
        require("the schema", schema, Mapping, "a dict")
        try:
            text = json.dumps(replace_surrogates_within(schema), ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as exc:
            raise RequestError(f"the schema is not JSON: {exc}", hint="send a JSON schema") from exc
        return cls(text, strict)

    @classmethod
    def of_arguments(cls, parameters: Mapping[str, Any], *, strict: bool = True) -> "JsonSchema":
        """Make the grammar of a tool's arguments. Where its `parameters` declare properties, and say nothing of others,
        there are no others: a function cannot take them."""
        require("the parameters", parameters, Mapping, "a dict")
        declared = parameters.get("properties")
        if isinstance(declared, Mapping) and not _SAYS_MORE.intersection(parameters):
            required = parameters.get("required", [])
            if isinstance(required, list) and declared.keys() >= set(map(str, required)):
                parameters = {**parameters, "additionalProperties": False}
        return cls.from_schema(parameters, strict=strict)


@dataclass(frozen=True, slots=True)
class TaggedArguments:
    """A call's arguments in tags, as GLM-4.6V writes them, with the tag that closes the call. Their schema is JSON
    text; if it is not `strict`, any arguments take the place of a schema that is not supported."""

    schema: str = '{"type": "object"}'
    strict: bool = False

    @classmethod
    def of(cls, arguments: "Grammar") -> "TaggedArguments":
        """Return the same arguments in tags. Raises TypeError for a grammar that is not one of JSON."""
        match arguments:
            case TaggedArguments():
                return arguments
            case JsonSchema(schema, strict):
                return cls(schema, strict)
            case JsonObject():
                return cls()
        raise TypeError(f"{type(arguments).__name__} is not a grammar of JSON")


# Keywords by which a schema allows properties that stand elsewhere.
_SAYS_MORE = frozenset(
    "additionalProperties unevaluatedProperties patternProperties $ref $dynamicRef allOf anyOf oneOf if "
    "dependentSchemas dependencies".split()
)

Grammar = Regex | Choice | Ebnf | JsonObject | JsonSchema | TaggedArguments


def to_tree(grammar: Grammar) -> Tree:
    """Return the grammar as a tree. Raises RequestError for one that is not supported, or too large."""
    try:
        with budget(STEPS):
            return _tree(grammar)
    except RecursionError as exc:
        raise RequestError("the grammar is nested too deeply", hint="simplify it") from exc


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


@lru_cache(maxsize=256)
def _check_valid(text: str) -> None:
    check_valid(_parse(text))


def _parse(text: str) -> Any:
    try:
        return strict_json.parse(text)
    except ValueError as exc:
        raise RequestError(f"the schema is not valid JSON: {exc}", hint="send a JSON schema") from exc


@lru_cache(maxsize=64)
def _tree(grammar: Grammar) -> Tree:
    # Imported where they are needed: most programs never compile a grammar.
    from .gbnf.compiler import compile_ebnf
    from .json_schema.compiler import compile_schema
    from .tagged_arguments import compile_tagged

    match grammar:
        case Regex(pattern):
            root = raw(matched(pattern))
            if root is NOTHING:
                raise RequestError("the regular expression matches no text", hint="correct it")
            return Tree(root, {})
        case Choice(options):
            return Tree(choice(*map(literal, options)), {})
        case Ebnf(text):
            return compile_ebnf(text)
        case JsonObject():
            return compile_schema({"type": "object"})
        case JsonSchema(text):
            return compile_schema(_parse(text))
        case TaggedArguments(text):
            return compile_tagged(_parse(text))
