"""The constraints of a reply: the grammars of an answer and of calls' arguments, and the calls that it must make."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..backends.backend import Backend
from ..cancellation import Cancellation
from ..errors import RequestError, UnsupportedGrammar
from ..grammar.grammar import AnswerLike, Grammar, JsonObject, JsonSchema, to_grammar
from ..sampling import SamplingParams
from .tool_choice import ToolChoice


@dataclass(frozen=True, slots=True)
class Constraint:
    """Constraints that are enforced while a reply is generated; by default none.

    `answer` is the grammar of an answer in words. `arguments` maps tools to the grammars of their arguments. The reply
    calls at least one of the tools in `must_call`; it may call one of those in `may_call` instead of an `answer`. After
    such a call further calls may follow, and no other text. With `one_call` it ends after the first call. `Chat.send`
    and `Model.reply` make one of `answer`, `tool_choice` and `strict`; `Model.reply` also takes one as it is.

    Example:
        constraint = edge.Constraint(answer=edge.Choice(("yes", "no")))
        reply = edge.Reply.from_events(chat.model.reply("Is it raining?", constraint=constraint))
    """

    answer: Grammar | None = None
    arguments: Mapping[str, Grammar] = field(default_factory=dict)
    must_call: tuple[str, ...] = ()
    may_call: tuple[str, ...] = ()
    one_call: bool = False

    @classmethod
    def for_tools(
        cls,
        tools: Sequence[Mapping[str, Any]],
        choice: str | Mapping[str, Any] = "auto",
        *,
        strict: bool = False,
        lenient: Collection[str] = (),
    ) -> "Constraint":
        """Translate OpenAI's `tool_choice`: "auto", "none", "required", a tool's name, or OpenAI's object with the name
        of a function. With `strict` the schema of every call's arguments is enforced; without, that of a required call
        is, if it is supported, else its arguments are any JSON object. The same holds for the `lenient` tools even if
        `strict`: somebody else has written their schemas.

        Raises RequestError if no such tool is offered, or for a schema to enforce that is not valid.
        """
        names = tuple(tool["name"] for tool in tools)
        required = ToolChoice.parse(choice).required_tools(names)
        enforced = names if strict else required
        return cls(
            arguments={
                tool["name"]: _arguments_grammar(tool, strict=strict, lenient=tool["name"] in lenient)
                for tool in tools
                if tool["name"] in enforced
            },
            must_call=required,
        )

    @classmethod
    def for_reply(
        cls,
        tools: Sequence[Mapping[str, Any]],
        choice: str | Mapping[str, Any],
        answer: AnswerLike | None,
        *,
        strict: bool,
        lenient: Collection[str] = (),
    ) -> "Constraint":
        """Translate the settings of a reply. An `answer` excludes calls; without one, as `for_tools`. Raises
        RequestError."""
        constraint = cls.for_tools(tools, choice, strict=strict, lenient=lenient)
        grammar = to_grammar(answer)
        return constraint if grammar is None else cls(answer=grammar)


def _arguments_grammar(tool: Mapping[str, Any], *, strict: bool, lenient: bool) -> Grammar:
    parameters = tool.get("parameters", {"type": "object"})
    try:
        return JsonSchema.of_arguments(parameters, strict=strict and not lenient)
    except RequestError:
        if not lenient:
            raise
        return JsonObject()


def admit(
    constraint: Constraint,
    backend: Backend,
    cancellation: Cancellation,
    sampling: SamplingParams,
    spelled: Callable[[Grammar], Grammar],
) -> Constraint:
    """Return the constraint as the engine enforces it: any JSON object takes the place of a schema that is not strict,
    and that the engine rejects. `spelled` returns the grammar of arguments as the model writes them. Raises
    UnsupportedGrammar if the engine rejects another grammar, UnsupportedSetting for a setting that it does not support
    beside one."""
    if constraint != Constraint(one_call=constraint.one_call):
        backend.require_unconstrained(sampling)

    def admitted(grammar: Grammar, written: Grammar) -> Grammar:
        try:
            backend.admit(written, cancellation)
        except UnsupportedGrammar as exc:
            if not isinstance(grammar, JsonSchema) or grammar.strict:
                if written is grammar:
                    raise
                raise UnsupportedGrammar(str(exc), hint=exc.hint, grammar=grammar) from exc
            return JsonObject()
        return grammar

    arguments = {tool: admitted(grammar, spelled(grammar)) for tool, grammar in constraint.arguments.items()}
    answer = None if constraint.answer is None else admitted(constraint.answer, constraint.answer)
    return replace(constraint, arguments=arguments, answer=answer)
