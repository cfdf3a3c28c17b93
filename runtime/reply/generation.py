"""One reply as a list of segments, each a request to the engine under the grammar of what comes next.

GLM-4 opens a call with nothing but the tool's name on a line, so no grammar can tell beforehand where one begins
without constraining plain answers too. Therefore the engine generates freely until the parser has seen a call open; it
is stopped there, continues from the same text under the grammar of that tool's arguments, and after them freely again.
With a prefix cache, continuing costs about a token. A reply that turns out to be nothing but calls in a nearby shape
is dropped, and each of its calls is written again as GLM-4 spells it, under the grammar of that tool's arguments.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from ..backends.backend import Backend, Delta, Request
from ..errors import PromptTooLong
from ..events import Event, Finish, FinishReason, Logprobs, PromptLogprobs, Text, ToolCall
from ..grammar.grammar import Choice, Grammar, JsonObject
from .constraint import Constraint, admit
from .grammar_check import GrammarCheck
from .logprob_aligner import LogprobAligner
from .parser import Parser
from .partial_reply import PartialReply
from .stop_texts import StopTexts


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of the reply. `grammar` constrains it; without one it may end early, where the parser pauses at
    `pause_at` ("answer" or "call"). `prefilled` is put before it, as the model itself would have continued. Where it
    may have `calls_only`, the reply ends before any other text."""

    grammar: Grammar | None = None
    pause_at: str = ""
    prefilled: str = ""
    calls_only: bool = False


def generate(
    backend: Backend, request: Request, parser: Parser, constraint: Constraint = Constraint()
) -> Generator[Event, None, None]:
    """Generate the events of a reply, the last a Finish. Closing the generator stops the engine.

    Before anything is generated, raises UnsupportedGrammar if the engine rejects one of the constraint's grammars, and
    UnsupportedSetting for a setting that it does not support beside a grammar.
    """
    constraint = admit(constraint, backend, request.cancellation, request.sampling, parser.arguments_grammar)
    partial = PartialReply(backend, request)
    output = _Output(request.sampling.stop, partial.tokens, one_call=constraint.one_call)
    segments = _plan(constraint, parser)
    segment = next(segments)
    check: GrammarCheck | None = None  # of the segment, once it has begun
    reason: FinishReason
    while True:
        if check is None:
            check = GrammarCheck(segment.grammar, backend)
            partial.begin_segment(segment.prefilled)
            parser.pause_at, output.takes_text = segment.pause_at, not segment.calls_only
            check.force(logprobs=request.sampling.logprobs)
        if partial.is_full(check.forced_tokens):
            reason = "length"
            break
        finish: Finish | None = None
        try:  # here, as a generator of its own would cost each token
            with closing(_deltas(backend, partial, check)) as deltas:
                for part in deltas:
                    if isinstance(part, Finish):
                        finish = part
                        break
                    delta = check.read(part)
                    partial.add(delta)
                    if not delta.tokens:
                        # An empty text lets the reader close the stream while the engine is busy.
                        yield PromptLogprobs(part.prompt) if part.prompt else part.progress or Text("")
                    for event, beyond in parser.feed(delta.text):
                        yield from output.push(event, beyond)
                        if output.ended:
                            yield Finish("stop", partial.usage(), output.stop_text)
                            return
                    if parser.paused or check.cut:
                        partial.rewind(parser.rewind() if parser.paused else 0)
                        break
        except PromptTooLong:
            if partial.requests == 1:
                raise
            finish = Finish("length")  # the reply has filled the context
        reason = "stop" if finish is None else partial.end(finish)
        if reason == "stop" and check.resume():
            continue
        if finish is not None and (segment.grammar is None or reason != "stop"):
            if reason != "stop" or not parser.reopen_call():
                break
            partial.rewind(parser.rewind())
        try:
            segment, check = segments.send(partial.segment_text()), None
        except StopIteration:
            break
    yield from output.drain(parser, cut_off=reason != "stop")
    yield Finish(
        "stop" if output.ended else reason,
        partial.usage(),
        output.stop_text,
        None if output.ended else partial.stop_token,
    )


def _deltas(backend: Backend, partial: PartialReply, check: GrammarCheck) -> Generator[Delta | Finish, None, None]:
    """Return what the engine generates; it is not asked for text that is forced."""
    return backend.generate(partial.request(check.grammar)) if check.forced is None else _only(check.forced)


def _only(forced: Delta) -> Generator[Delta | Finish, None, None]:
    yield forced


def _plan(constraint: Constraint, parser: Parser) -> Generator[_Segment, str, None]:
    """The segments of a reply. Each is answered with the text it became; the reply ends where they do, or with a
    segment that the engine ends although no grammar did."""
    answer, prefilled, name = constraint.answer, "", ""
    callable_tools = constraint.must_call if answer is None else constraint.may_call

    def arguments(tool: str, prefilled: str = "") -> _Segment:
        grammar = parser.arguments_grammar(constraint.arguments.get(tool, JsonObject()))
        return _Segment(grammar, prefilled=prefilled)

    if answer is not None or callable_tools:
        if reasons := parser.reasoning_is_open:
            yield _Segment(pause_at="answer")
        if reasons or not callable_tools:
            prefilled = parser.answer_opening  # directly after the assistant's token stands a call
    if callable_tools:  # GLM-4 opens an answer with a newline, a call with the tool's name
        calls = {parser.call_opening(tool): tool for tool in callable_tools}
        opening = Choice(tuple(calls) if answer is None else ("\n", *calls))
        name = calls.get((yield _Segment(opening, prefilled=prefilled)).removeprefix(prefilled), "")
        prefilled = ""
        if name and not parser.call_is_text:
            yield arguments(name)
    if answer is not None and not name:
        yield _Segment(answer, prefilled=prefilled)
        return
    while True:
        yield _Segment(pause_at="call" if constraint.arguments else "", calls_only=bool(name))
        reopened = parser.reopened
        yield arguments(parser.call, prefilled=parser.call_opening(reopened[0]) if reopened else "")
        for further in reopened[1:]:
            yield _Segment(Choice((parser.call_opening(further),)), prefilled="\n")
            yield arguments(further)


def skip_prompt_tokens(events: Generator[Event, None, None], count: int) -> Generator[Event, None, None]:
    """Drop the first `count` tokens of the prompt from the events with its log-probabilities."""
    with closing(events):
        for event in events:
            if isinstance(event, PromptLogprobs):
                yield PromptLogprobs(event.tokens[count:])
                count = max(count - len(event.tokens), 0)
            else:
                yield event


class _Output:
    """Parsed events on their way out: text ends before a stop string, and follows the tokens it is made of. The reply
    has `ended` after a stop string, before text where it `takes_text` no more, and after a call if it is for
    `one_call`."""

    def __init__(self, stops: Sequence[str], tokens: LogprobAligner, *, one_call: bool) -> None:
        self.takes_text = True
        self.ended = False
        self._stop = StopTexts(stops)
        self._tokens = tokens
        self._one_call = one_call

    @property
    def stop_text(self) -> str:
        """The stop string before which the reply ended, "" if there was none."""
        return self._stop.found

    def push(self, event: Event, beyond: int) -> list[Event]:
        """The events that are certain with this one. `beyond` is the number of characters generated after it."""
        if not isinstance(event, Text):
            self.ended = self._one_call and isinstance(event, ToolCall)
            return [*self.finish(), event]
        if not self.takes_text:
            self.ended = True
            return []
        self._tokens.emit(len(event.text), beyond)
        text = self._stop.feed(event.text)
        self.ended = bool(self._stop.found)
        return self._with_logprobs(text)

    def finish(self) -> list[Event]:
        """The text that was kept and turned out to be no stop string."""
        rest = self._stop.finish()
        return self._with_logprobs(rest) if rest else []

    def drain(self, parser: Parser, *, cut_off: bool) -> Iterator[Event]:
        """The events with which the reply ends."""
        for event, beyond in parser.finish(cut_off=cut_off):
            yield from self.push(event, beyond)
            if self.ended:
                return
        yield from self.finish()

    def _with_logprobs(self, text: str) -> list[Event]:
        logprobs = self._tokens.take(len(text))
        return [Logprobs(logprobs), Text(text)] if logprobs else [Text(text)]
