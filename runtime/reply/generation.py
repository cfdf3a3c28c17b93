"""One reply as a list of segments, each a request to the engine under the grammar of what comes next.

GLM-4 opens a call with nothing but the tool's name on a line, so no grammar can tell beforehand where one begins
without constraining plain answers too. Therefore the engine generates freely until the parser has seen a call open; it
is stopped there, continues from the same text under the grammar of that tool's arguments, and after them freely again.
With a prefix cache, continuing costs about a token.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from ..backends.backend import Backend, Delta, Request
from ..cancellation import Cancellation
from ..errors import PromptTooLong, UnsupportedGrammar
from ..grammar.grammar import AnswerLike, Choice, Grammar, JsonObject, JsonSchema, to_grammar
from ..messages import Event, Finish, FinishReason, Logprobs, Text, ToolCall, Usage
from .logprob_aligner import LogprobAligner
from .parser import Parser
from .stop_texts import StopTexts
from .tool_choice import ToolChoice


@dataclass(frozen=True, slots=True)
class Constraint:
    """Constraints that are enforced while a reply is generated; by default none.

    `answer` is the grammar of an answer in words. `arguments` maps tools to the grammars of their arguments. The reply
    calls at least one of the tools in `must_call`; it may call one of those in `may_call` instead of an `answer`. With
    `one_call` it ends after the first call. `Chat.send` and `Model.reply` make one of `answer`, `tool_choice` and
    `strict`; `Model.reply` also takes one as it is.

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
        cls, tools: Sequence[Mapping[str, Any]], choice: str | Mapping[str, Any] = "auto", *, strict: bool = False
    ) -> "Constraint":
        """Translate OpenAI's `tool_choice`: "auto", "none", "required", a tool's name, or OpenAI's object with the name
        of a function. With `strict` the schema of every call's arguments is enforced; without, that of a required call
        is, if it is supported, else its arguments are any JSON object.

        Raises RequestError if no such tool is offered, or for a schema to enforce that is not valid.
        """
        names = tuple(tool["name"] for tool in tools)
        required = ToolChoice.parse(choice).required_tools(names)
        enforced = names if strict else required
        return cls(
            arguments={
                tool["name"]: JsonSchema.from_schema(tool["parameters"], strict=strict)
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
    ) -> "Constraint":
        """Translate the settings of a reply. An `answer` excludes calls; without one, as `for_tools`. Raises
        RequestError."""
        constraint = cls.for_tools(tools, choice, strict=strict)
        grammar = to_grammar(answer)
        return constraint if grammar is None else cls(answer=grammar)


def admit(constraint: Constraint, backend: Backend, cancellation: Cancellation) -> Constraint:
    """Return the constraint as the engine enforces it: any JSON object takes the place of a schema that is not strict,
    and that the engine rejects. Raises UnsupportedGrammar if it rejects another grammar."""

    def admitted(grammar: Grammar) -> Grammar:
        try:
            backend.admit(grammar, cancellation)
        except UnsupportedGrammar:
            if not isinstance(grammar, JsonSchema) or grammar.strict:
                raise
            return JsonObject()
        return grammar

    arguments = {tool: admitted(grammar) for tool, grammar in constraint.arguments.items()}
    answer = None if constraint.answer is None else admitted(constraint.answer)
    return replace(constraint, arguments=arguments, answer=answer)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of the reply. `grammar` constrains it; without one it may end early, where the parser pauses at
    `pause_at` ("answer" or "call"). `prefilled` is put before it, as the model itself would have continued."""

    grammar: Grammar | None = None
    pause_at: str = ""
    prefilled: str = ""


def generate(
    backend: Backend, request: Request, parser: Parser, constraint: Constraint = Constraint()
) -> Generator[Event, None, None]:
    """Generate the events of a reply, the last a Finish. Closing the generator stops the engine.

    Raises UnsupportedGrammar, before anything is generated, if the engine rejects one of the constraint's grammars.
    """
    constraint = admit(constraint, backend, request.cancellation)
    progress = _Progress(request)
    output = _Output(request.sampling.stop, progress.tokens)
    segments = _plan(constraint, parser)
    segment = next(segments)
    reason: FinishReason
    while True:
        parser.pause_at = segment.pause_at
        finish: Finish | None = None
        if not progress.begin(segment):
            reason = "length"
            break
        try:
            with closing(backend.generate(progress.request(segment.grammar))) as deltas:
                for delta in deltas:
                    if isinstance(delta, Finish):
                        finish = delta
                        break
                    progress.add(delta)
                    if not delta.tokens:
                        yield Text("")  # lets the reader close the stream while the engine is busy
                    for event, beyond in parser.feed(delta.text):
                        yield from output.push(event, beyond)
                        if output.stopped or (constraint.one_call and isinstance(event, ToolCall)):
                            yield Finish("stop", progress.usage(backend))
                            return
                    if parser.paused:
                        progress.rewind(parser.rewind())
                        break
        except PromptTooLong:
            if progress.first:
                raise
            finish = Finish("length")  # the reply has filled the context
        if progress.first:
            progress.prompt_tokens = (
                finish.usage.prompt_tokens if finish is not None else backend.count_tokens(request.prompt)
            )
        reason = "stop" if finish is None else finish.reason
        if finish is not None and (segment.grammar is None or reason != "stop"):
            break
        try:
            segment = segments.send(progress.text_of_segment())
        except StopIteration:
            break
    for event, beyond in parser.finish(cut_off=reason != "stop"):
        yield from output.push(event, beyond)
        if output.stopped or (constraint.one_call and isinstance(event, ToolCall)):
            reason = "stop"
            break
    else:
        yield from output.finish()
    yield Finish(reason, progress.usage(backend))


def _plan(constraint: Constraint, parser: Parser) -> Generator[_Segment, str, None]:
    """The segments of a reply. Each is answered with the text it became; the reply ends where they do, or with a
    segment that the engine ends although no grammar did."""
    answer, prefilled = constraint.answer, ""
    if answer is not None or constraint.must_call:
        if reasons := parser.reasoning_is_open:
            yield _Segment(pause_at="answer")
        if reasons or (answer is not None and not constraint.may_call):
            prefilled = parser.answer_opening
    if answer is not None and constraint.may_call:  # GLM-4 opens an answer with a newline, a call with the tool's name
        opening = Choice(("\n", *(f"{name}\n" for name in constraint.may_call)))
        name = (yield _Segment(opening, prefilled=prefilled)).strip()
        prefilled = ""
        if name:
            yield _Segment(constraint.arguments.get(name, JsonObject()))
            answer = None
    if answer is not None:
        yield _Segment(answer, prefilled=prefilled)
        return
    if constraint.must_call:
        opening = Choice(tuple(f"{name}\n" for name in constraint.must_call))
        name = (yield _Segment(opening, prefilled=prefilled)).strip()
        if not parser.call_is_text:
            yield _Segment(constraint.arguments.get(name, JsonObject()))
    while True:
        yield _Segment(pause_at="call" if constraint.arguments else "")
        yield _Segment(constraint.arguments.get(parser.call, JsonObject()))


class _Progress:
    """The text that has been generated so far, and its tokens."""

    def __init__(self, request: Request) -> None:
        self.tokens = LogprobAligner()
        self.prompt_tokens = 0
        self._request = request
        self._pieces: list[str] = []  # joined when needed: appending each to the whole would cost its square
        self._segments = 0
        self._segment_start = 0  # characters
        self._new_tokens, self._ttft = 0, 0.0
        self._start = time.perf_counter()

    @property
    def first(self) -> bool:
        """Whether this is the reply's first segment."""
        return self._segments == 1

    @property
    def _text(self) -> str:
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    @property
    def _tokens_left(self) -> int | None:
        limit = self._request.sampling.max_new_tokens
        return None if limit is None else limit - self._new_tokens

    def begin(self, segment: _Segment) -> bool:
        """Begin a segment; False if the token limit leaves no room for it."""
        self._pieces.append(segment.prefilled)
        self._segment_start = len(self._text)
        if self._tokens_left is not None and self._tokens_left <= 0:
            return False
        self._segments += 1
        return True

    def request(self, grammar: Grammar | None) -> Request:
        """The request of the current segment: prompt and reply so far, and the tokens that are left."""
        seed = self._request.sampling.seed
        sampling = replace(
            self._request.sampling,
            max_new_tokens=self._tokens_left,
            seed=None if seed is None else (seed + self._segments - 1) % 2**63,
        )
        prompt = (*self._request.prompt, self._text) if self._text else self._request.prompt
        return replace(self._request, prompt=prompt, grammar=grammar, sampling=sampling)

    def add(self, delta: Delta) -> None:
        self._pieces.append(delta.text)
        self.tokens.add(len(delta.text), delta.logprob)
        self._new_tokens += delta.tokens
        if delta.tokens and not self._ttft:
            self._ttft = time.perf_counter() - self._start

    def rewind(self, length: int) -> None:
        """Drop the last `length` characters."""
        self._pieces = [self._text[: len(self._text) - length]]
        self.tokens.rewind(length)

    def text_of_segment(self) -> str:
        return self._text[self._segment_start :]

    def usage(self, backend: Backend) -> Usage:
        """The reply's usage so far. A prompt that no engine has counted is counted now, unless it was cancelled."""
        prompt_tokens = self.prompt_tokens
        if not prompt_tokens and not self._request.cancellation.cancelled:
            prompt_tokens = backend.count_tokens(self._request.prompt)
        return Usage(prompt_tokens, self._new_tokens, self._ttft, time.perf_counter() - self._start)


class _Output:
    """Parsed events on their way out: text ends before a stop string, and follows the tokens it is made of."""

    def __init__(self, stops: Sequence[str], tokens: LogprobAligner) -> None:
        self._stop = StopTexts(stops)
        self._tokens = tokens

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self._stop.found

    def push(self, event: Event, beyond: int) -> list[Event]:
        """The events that are certain with this one. `beyond` is the number of characters generated after it."""
        if isinstance(event, Text):
            self._tokens.emit(len(event.text), beyond)
            return self._with_logprobs(self._stop.feed(event.text))
        return [*self.finish(), event]

    def finish(self) -> list[Event]:
        """The text that was kept and turned out to be no stop string."""
        rest = self._stop.finish()
        return self._with_logprobs(rest) if rest else []

    def _with_logprobs(self, text: str) -> list[Event]:
        logprobs = self._tokens.take(len(text))
        return [Logprobs(logprobs), Text(text)] if logprobs else [Text(text)]
