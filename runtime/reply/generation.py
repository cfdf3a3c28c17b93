"""One reply as a row of requests to an engine, each under the grammar of what comes next.

GLM-4 opens a call with nothing but the tool's name on a line, so no grammar can tell beforehand where one begins
without binding plain answers too. Therefore the engine writes freely until the parser has seen a call open; it is
stopped there, goes on from the same text under the grammar of that tool's arguments, and after them freely again. With
a prefix cache, going on costs about a token.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from ..backends.backend import Backend, Delta, Request
from ..errors import PromptTooLong, RequestError
from ..grammar import Choice, Grammar, JsonObject, JsonSchema
from ..messages import Finish, Logprobs, Text, ToolCall, Usage
from .logprob_aligner import LogprobAligner
from .parsing import Part, ReplyParser, overlap


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a reply has to be. Nothing, by default.

    `answer` is the grammar of an answer in words. `arguments` are those of the tools' arguments, by name: each call is
    held to its own. `must_call` names the tools of which the reply calls one at least, `may_call` those that it may
    call in the place of an `answer`. With `one_call` it ends after the first.
    """

    answer: Grammar | None = None
    arguments: Mapping[str, Grammar] = field(default_factory=dict)
    must_call: tuple[str, ...] = ()
    may_call: tuple[str, ...] = ()
    one_call: bool = False

    def grammars(self) -> Iterator[Grammar]:
        """All that the reply may come under."""
        yield from self.arguments.values()
        if self.answer is not None:
            yield self.answer

    @classmethod
    def for_tools(
        cls, tools: Sequence[Mapping[str, Any]], choice: str = "auto", *, strict: bool = False
    ) -> "Constraint":
        """`choice` is "auto", "none", "required", or a tool's name. `strict` holds each call to its tool's schema; a
        call that has to be made always is.

        Raises RequestError where there is no such tool, or a schema cannot be held.
        """
        names = tuple(tool["name"] for tool in tools)
        if choice in ("auto", "none"):
            must_call: tuple[str, ...] = ()
        elif choice == "required" and names:
            must_call = names
        elif choice in names:
            must_call = (choice,)
        else:
            raise RequestError(
                f"the tool choice is {choice!r}, but the tools offered are {', '.join(names) or 'none'}",
                hint="it may be auto, none, required, or the name of a tool that is offered",
            )
        held = names if strict else must_call
        return cls(
            arguments={tool["name"]: JsonSchema.of(tool["parameters"]) for tool in tools if tool["name"] in held},
            must_call=must_call,
        )


Events = Generator[Part | Finish, None, None]
Told = Generator[Part | Logprobs | Finish, None, None]
Segment = Generator[Part, None, Finish | None]


def generate(backend: Backend, request: Request, parser: ReplyParser, constraint: Constraint) -> Told:
    """The events of a reply, the last a Finish. Closing the generator stops the engine.

    Raises UnsupportedGrammar, before anything is written, where the engine does not take one of the constraint's.
    """
    for grammar in constraint.grammars():
        backend.admit(grammar, request.cancellation)
    writer = _Writer(backend, request, parser)
    stop = StopTexts(request.sampling.stop)
    with closing(_parts(writer, parser, constraint)) as parts:
        for part in parts:
            match part:
                case Text(text):
                    writer.tokens.emit(len(text), parser.held)
                    yield from with_logprobs(stop.feed(text), writer.tokens)
                case Finish():
                    if rest := stop.finish():
                        yield from with_logprobs(rest, writer.tokens)
                    yield Finish(part.reason, writer.usage_now())
                    return
                case _:
                    if rest := stop.finish():
                        yield from with_logprobs(rest, writer.tokens)
                    yield part
            if stop.found or (constraint.one_call and isinstance(part, ToolCall)):
                break
    yield Finish("stop", writer.usage_now())


def with_logprobs(text: str, tokens: LogprobAligner) -> Generator[Text | Logprobs, None, None]:
    """The text, after the tokens of which it is made where they are known."""
    if logged := tokens.take(len(text)):
        yield Logprobs(logged)
    yield Text(text)


def _parts(writer: "_Writer", parser: ReplyParser, constraint: Constraint) -> Events:
    finish = yield from _write(writer, parser, constraint)
    yield from parser.finish(cut_off=finish.reason != "stop")
    yield finish


def _write(writer: "_Writer", parser: ReplyParser, constraint: Constraint) -> Generator[Part, None, Finish]:
    if constraint.answer is not None or constraint.must_call:
        thinks = parser.reasoning_is_open
        if thinks and (finish := (yield from writer.run(None, pause="answer"))):
            return finish  # it never came to an answer
        if thinks or (constraint.answer is not None and not constraint.may_call):
            writer.force("\n")  # as the model itself would go on; after the assistant's token alone stands a call
    if constraint.answer is not None and constraint.may_call:
        before = len(writer.said)  # GLM-4 opens an answer with a newline, a call with the tool's name
        finish = yield from writer.run(Choice(("\n", *(f"{name}\n" for name in constraint.may_call))))
        if finish is not None and finish.reason != "stop":
            return finish
        if name := writer.said[before:].strip():
            finish = yield from writer.run(constraint.arguments.get(name, JsonObject()))
            if finish is not None and finish.reason != "stop":
                return finish
            constraint = replace(constraint, answer=None)
    if constraint.answer is not None:
        return (yield from writer.run(constraint.answer)) or Finish("stop")
    if constraint.must_call:
        before = len(writer.said)
        finish = yield from writer.run(Choice(tuple(f"{name}\n" for name in constraint.must_call)))
        if finish is not None and finish.reason != "stop":
            return finish
        if not parser.call_is_text:
            finish = yield from writer.run(constraint.arguments.get(writer.said[before:].strip(), JsonObject()))
            if finish is not None and finish.reason != "stop":
                return finish
    while True:
        finish = yield from writer.run(None, pause="call" if constraint.arguments else "")
        if finish is not None:
            return finish
        finish = yield from writer.run(constraint.arguments.get(parser.call, JsonObject()))
        if finish is not None and finish.reason != "stop":
            return finish


class StopTexts:
    """Lets a text pass up to the first of the `stops`, in whatever pieces it comes."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.found = False
        self._stops = stops
        self._held = ""

    def feed(self, piece: str) -> str:
        """What is certain to stand before a stop."""
        held = self._held + piece
        places = [place for stop in self._stops if (place := held.find(stop)) >= 0]
        self.found = bool(places)
        end = min(places) if places else len(held) - max((overlap(held, stop) for stop in self._stops), default=0)
        self._held = "" if self.found else held[end:]
        return held[:end]

    def finish(self) -> str:
        """What was held back and turned out to be no stop."""
        held, self._held = self._held, ""
        return held


class _Writer:
    """Runs the segments of a reply one after another on one growing text."""

    def __init__(self, backend: Backend, request: Request, parser: ReplyParser) -> None:
        self._pieces: list[str] = []
        self._prompt_tokens, self._written, self._ttft = 0, 0, 0.0
        self.start = time.perf_counter()
        self.tokens = LogprobAligner()
        self._backend = backend
        self._request = request
        self._parser = parser
        self._segments = 0

    @property
    def said(self) -> str:
        """The text so far. It grows in pieces: to add each to the whole would cost the square of its length."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def force(self, text: str) -> None:
        """Puts words into the model's mouth."""
        self._pieces.append(text)

    def run(self, grammar: Grammar | None, pause: str = "") -> Segment:
        """Writes on until the engine finishes, or None: until the parser pauses, at the "answer" or at a "call"."""
        limit = self._request.sampling.max_new_tokens
        left = None if limit is None else limit - self._written
        if left is not None and left <= 0:
            return Finish("length")
        seed = self._request.sampling.seed
        sampling = replace(
            self._request.sampling, max_new_tokens=left, seed=None if seed is None else (seed + self._segments) % 2**63
        )
        said = self.said
        prompt = (*self._request.prompt, said) if said else self._request.prompt
        request = replace(self._request, prompt=prompt, grammar=grammar, sampling=sampling)
        self._parser.pause_at = pause
        first, self._segments = self._segments == 0, self._segments + 1
        try:
            with closing(self._backend.generate(request)) as parts:
                for part in parts:
                    if isinstance(part, Finish):
                        if first:
                            self._prompt_tokens = part.usage.prompt_tokens
                        return part
                    self._count(part)
                    if not part.tokens:
                        yield Text("")  # here it can be closed
                    yield from self._parser.feed(part.text)
                    if self._parser.paused:
                        beyond = self._parser.rewind()
                        self._pieces = [self.said[: len(self.said) - beyond]]
                        self.tokens.rewind(beyond)
                        break
        except PromptTooLong:
            if first:
                raise
            return Finish("length")  # the reply has filled the context
        if first:
            self._prompt_tokens = self._backend.count_tokens(self._request.prompt)
        return None

    def usage_now(self) -> Usage:
        """What it has come to by now."""
        prompt_tokens = self._prompt_tokens
        if not prompt_tokens and not self._request.cancellation.cancelled:
            prompt_tokens = self._backend.count_tokens(self._request.prompt)
        return Usage(prompt_tokens, self._written, self._ttft, time.perf_counter() - self.start)

    def _count(self, part: Delta) -> None:
        self._pieces.append(part.text)
        self.tokens.add(len(part.text), part.written)
        self._written += part.tokens
        if part.tokens and not self._ttft:
            self._ttft = time.perf_counter() - self.start
