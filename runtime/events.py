"""The events of a reply while it is generated: frozen values."""

from dataclasses import dataclass, field
from typing import Literal

from . import strict_json
from .checks import normalize_fields
from .pictures import Picture

FinishReason = Literal["stop", "length", "rounds", "cancelled"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer. The pieces of a reply add up to its whole text. A piece may be
    empty: while the engine is busy, as with a long prompt, an empty one lets the reader close the stream.

    Example:
        for event in chat.stream("Tell me a story."):
            if isinstance(event, edge.Text):
                print(event.text, end="", flush=True)
    """

    text: str


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, and the natural logarithm of the probability that the model itself assigns to it, before temperature,
    penalties and grammars. A token may be part of a character: `bytes` has what it stands for. `id` is None where the
    engine reports none. `top` has the most probable tokens in its place, the first one first, if
    `Sampling.top_logprobs` asks for them.

    Example:
        for token in chat.send("Who are you?", logprobs=True).logprobs:
            print(f"{token.text!r}: {2.718281828 ** token.logprob:.0%}")
    """

    bytes: bytes
    logprob: float
    id: int | None = None
    top: tuple["TokenLogprob", ...] = ()

    @property
    def text(self) -> str:
        """The token's characters; bytes that are not valid UTF-8 by themselves are U+FFFD."""
        return self.bytes.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Logprobs:
    """The tokens that the next Text is made of, if `Sampling.logprobs` asks for them.

    Example:
        for event in chat.stream("Who are you?", logprobs=True):
            if isinstance(event, edge.Logprobs):
                print([token.text for token in event.tokens])
    """

    tokens: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Log-probabilities of prompt tokens, in pieces before the reply, if `Sampling.prompt_logprobs` asks for them.
    Special tokens are among them. The first token of a prompt follows nothing, and has the log-probability 0.

    Example:
        for event in chat.model.complete("To be or not to be", prompt_logprobs=True, max_tokens=1):
            if isinstance(event, edge.PromptLogprobs):
                print([(token.text, token.logprob) for token in event.tokens])
    """

    tokens: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class PictureProgress:
    """The model reads a picture, before the first token of its reply: seconds on a fast machine, minutes on a small
    one. Comes when it begins and every second after that. It reads picture `number` of the `total` that it does not
    know yet, since so many `seconds`; `expected` are those that the last picture took, 0 if there was none.

    Example:
        def show_progress(event: edge.Event) -> None:
            if isinstance(event, edge.PictureProgress):
                print(f"reading picture {event.number} of {event.total}: {event.seconds:.0f} s")
    """

    number: int
    total: int
    seconds: float
    expected: float = 0.0


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's reasoning, before its answer. Models that do not reason emit none.

    Example:
        for event in chat.stream("How many prime numbers are below 20?"):
            if isinstance(event, edge.Reasoning):
                print(event.text, end="", flush=True)
    """

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call's arguments as they stream. The pieces with the same id add up to the `arguments` of its
    ToolCall.

    Example:
        for event in chat.stream("What time is it?"):
            if isinstance(event, edge.ToolCallDelta):
                print(event.arguments, end="", flush=True)
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call as the model wrote it. `arguments` is JSON text, which may be invalid.

    `complete` is False if the reply ended inside the arguments; `arguments` then is what arrived. Raises RequestError
    for a field of the wrong type. Lone surrogates become U+FFFD, here and in the other values.

    Example:
        call = edge.ToolCall("add", '{"a": 1, "b": 2}', id="call_1")
        assert not call.problem
    """

    name: str
    arguments: str
    id: str = ""
    complete: bool = True

    def __post_init__(self) -> None:
        normalize_fields(self, "a tool call's", "name", "arguments", "id")

    @property
    def problem(self) -> str:
        """The reason why the arguments are not valid; "" if they are a JSON object."""
        if not self.complete:
            return "the arguments were cut off"
        try:
            parsed = strict_json.parse(self.arguments)
        except ValueError as exc:
            return f"the arguments are not valid JSON: {exc}"
        return "" if isinstance(parsed, dict) else "the arguments are not a JSON object"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and seconds of a reply, all rounds together. `ttft` is the time to the first token of the first round, in
    seconds. `cached_tokens` are those of the prompt that the engine did not compute, since an earlier prompt began with
    them; 0 where it does not report them.

    Example:
        usage = chat.send("Who are you?").usage
        print(f"first word after {usage.ttft:.1f} s, {usage.completion_tokens / usage.seconds:.0f} tokens/s")
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft: float = 0.0
    seconds: float = 0.0
    cached_tokens: int = 0

    def __add__(self, later: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + later.prompt_tokens,
            self.completion_tokens + later.completion_tokens,
            self.ttft or later.ttft,
            self.seconds + later.seconds,
            self.cached_tokens + later.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Finish:
    """The last event of a reply.

    `reason` is "stop", "length" (the token limit), "rounds" (the model kept calling tools) or "cancelled". `stop_text`
    is the stop string before which the reply ended, "" if there was none. `stop_token` is the stop token with which the
    model ended a reply whose `logprobs` were asked for; it is not part of the text. `context_used` is the part of the
    context that a Chat's last prompt and its reply took, from 0 to 1: close to 1, the next message may no longer fit.

    Example:
        *_, finish = chat.stream("Who are you?")
        assert isinstance(finish, edge.Finish)
        print(finish.reason, finish.usage.completion_tokens)
    """

    reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    stop_text: str = ""
    stop_token: TokenLogprob | None = None
    context_used: float = 0.0


@dataclass(frozen=True, slots=True)
class Citation:
    """A part of a document that a message or a tool's result contains: the document's name, the place in it, such as
    "page 3" or "Fares, lines 12-20", and its text. `number` is that of a passage which was found by search, as the
    model may cite it; 0 in a document that is there as a whole.

    Example:
        reply = chat.send("What does a crossing cost?", documents=[("fares.md", b"A crossing costs 12 crowns.")])
        for citation in reply.citations:
            print(citation.document, citation.place)
    """

    document: str
    place: str
    text: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool call, as the model reads it. `error` is True if the call was rejected or the function
    raised. `call_id` is the id of its ToolCall. `pictures` are for the user as well; a model that reads no pictures in
    results has a line about them in `content`. `citations` are the passages that the model may cite by their numbers.

    Example:
        for result in chat.send("What time is it?").tool_results:
            print(result.name, "failed" if result.error else result.content)
    """

    call_id: str
    name: str
    content: str
    error: bool = False
    pictures: tuple[Picture, ...] = ()
    citations: tuple[Citation, ...] = ()

    def __post_init__(self) -> None:
        normalize_fields(self, "a tool result's", "call_id", "name", "content")


@dataclass(frozen=True, slots=True)
class Documents:
    """What a message contains of its documents; the first event of its reply. `content` is the whole message as the
    model reads it, `notes` say what of the documents could not be read.

    Example:
        for event in chat.stream("What does it cost?", documents=[("fares.md", b"A crossing costs 12 crowns.")]):
            if isinstance(event, edge.Documents):
                print({citation.document for citation in event.citations})
    """

    content: str
    citations: tuple[Citation, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DroppedMessages:
    """The `count` oldest messages of the chat no longer fit the context: the model does not read them. They are still
    in the history. The event precedes each reply of a Chat with overflow="drop" for which this is so.

    Example:
        for event in chat.stream("And then?"):
            if isinstance(event, edge.DroppedMessages):
                print(f"The first {event.count} messages no longer fit.")
    """

    count: int


Event = (
    Text
    | Logprobs
    | PromptLogprobs
    | PictureProgress
    | Reasoning
    | ToolCallDelta
    | ToolCall
    | ToolResult
    | Documents
    | DroppedMessages
    | Finish
)
"""Whatever a stream yields.

Example:
    def show(event: edge.Event) -> None:
        match event:
            case edge.Text(text):
                print(text, end="", flush=True)
            case edge.ToolCall(name, arguments):
                print(f"[{name} {arguments}]")
"""
