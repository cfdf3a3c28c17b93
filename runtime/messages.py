"""The messages of a chat, and the events of a reply while it is generated. All are frozen values."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from . import strict_json
from .checks import require, require_all, require_integer
from .errors import RequestError
from .pictures import Picture, PictureLike, to_pictures
from .text import quoted, replace_surrogates, replace_surrogates_within

Role = Literal["system", "user", "assistant", "tool"]
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
    """Further tokens of the prompt, before the reply, if `Sampling.prompt_logprobs` asks for them. Special tokens are
    among them. The first token of a prompt follows nothing, and has the log-probability 0.

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
        _normalize(self, "a tool call's", "name", "arguments", "id")

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
class ToolResult:
    """The result of a tool call, as the model reads it. `error` is True if the call was rejected or the function
    raised. `call_id` is the id of its ToolCall.

    Example:
        for result in chat.send("What time is it?").tool_results:
            print(result.name, "failed" if result.error else result.content)
    """

    call_id: str
    name: str
    content: str
    error: bool = False

    def __post_init__(self) -> None:
        _normalize(self, "a tool result's", "call_id", "name", "content")


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
    model ended a reply whose `logprobs` were asked for; it is not part of the text.

    Example:
        *_, finish = chat.stream("Who are you?")
        assert isinstance(finish, edge.Finish)
        print(finish.reason, finish.usage.completion_tokens)
    """

    reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    stop_text: str = ""
    stop_token: TokenLogprob | None = None


_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


@dataclass(frozen=True, slots=True)
class Citation:
    """A part of a document that a message contains: the document's name, the place in it, such as "page 3" or "Fares,
    lines 12-20", and its text. `number` is that of a passage which was found by search, as the model may cite it; 0 in
    a document that is there as a whole.

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


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat. `role` is "system", "user", "assistant" or "tool". `tool_call_id` and `name` belong to a
    tool's message, `tool_calls` and `reasoning` to the assistant's. Wherever a Message is taken, a dict in the layout
    of OpenAI's chat API will do.

    `pictures` are what `Picture.open` takes. They stand before the text, or where `picture_places` says: after so many
    characters of it, for each one. In dicts they are `image_url` parts with `data:` URLs.

    Raises RequestError for an unknown role or a field of the wrong type.

    Example:
        message = edge.Message("user", "Who are you?")
        assert message == edge.Message.from_json({"role": "user", "content": "Who are you?"})
    """

    role: Role
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    pictures: tuple[Picture, ...] = ()
    picture_places: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in _ROLES.values():
            raise RequestError(f"unknown role {quoted(self.role)}", hint=f"choose one of {', '.join(_ROLES.values())}")
        _normalize(self, "a message's", "content", "reasoning", "tool_call_id", "name")
        require_all("a message's tool_calls", self.tool_calls, ToolCall, "a list of ToolCall")
        object.__setattr__(self, "tool_calls", tuple(self.tool_calls))
        object.__setattr__(self, "pictures", to_pictures(self.pictures))
        places = tuple(self.picture_places) or (0,) * len(self.pictures)
        if len(places) != len(self.pictures) or list(places) != sorted(places):
            raise RequestError(
                "a message's picture_places do not fit its pictures", hint="pass a number for each, in ascending order"
            )
        for place in places:
            require_integer("a picture's place", place, 0, len(self.content))
        object.__setattr__(self, "picture_places", places)

    @property
    def parts(self) -> tuple[str | Picture, ...]:
        """The text and the pictures in their order, without empty texts."""
        parts: list[str | Picture] = []
        end = 0
        for picture, place in zip(self.pictures, self.picture_places, strict=True):
            parts += [self.content[end:place], picture]
            end = place
        return tuple(part for part in (*parts, self.content[end:]) if part)

    def to_json(self) -> dict[str, Any]:
        """Return the message in the layout of OpenAI's chat API, without empty fields."""
        content = [_part_to_json(part) for part in self.parts] if self.pictures else self.content
        out: dict[str, Any] = {"role": self.role, "content": content}
        if self.reasoning:
            out["reasoning_content"] = self.reasoning
        if self.tool_calls:
            out["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        if self.role == "tool":
            out |= {"tool_call_id": self.tool_call_id, "name": self.name}
        return out

    @classmethod
    def from_json(cls, data: object) -> "Message":
        """Parse a message in the layout of OpenAI's chat API. Raises RequestError for one that GLM-4 cannot read.

        The role `developer` is a later name of `system`; content may be text or a list of text and `image_url` parts.
        """
        if not isinstance(data, Mapping):
            raise RequestError(
                f"a message is {type(data).__name__}", hint="it has to be an object with role and content"
            )
        role = _ROLES.get(str(data.get("role")))
        if role is None:
            raise RequestError(f"unknown role {quoted(data.get('role'))}", hint=f"it may be {', '.join(_ROLES)}")
        calls = data.get("tool_calls") or ()
        if not isinstance(calls, list | tuple):
            raise RequestError("a message's tool_calls must be a list", hint="send a list of calls")
        content, pictures, places = _parse_content(data.get("content"))
        return cls(
            role,
            content,
            _parse_text(data, "reasoning_content"),
            tuple(_parse_call(item) for item in calls),
            _parse_text(data, "tool_call_id"),
            _parse_text(data, "name"),
            pictures,
            places,
        )


MessageLike = Message | Mapping[str, Any]
"""A Message, or a dict in the layout of OpenAI's chat API, as `Message.from_json` takes it.

Example:
    messages: list[edge.MessageLike] = [{"role": "user", "content": "Hi"}, edge.Message("assistant", "Hello.")]
"""


def to_message(message: object) -> Message:
    """Return a Message of a Message, a dict in the layout of OpenAI's chat API, or a pydantic object of that layout,
    such as the message of openai's or ollama's response. Raises RequestError."""
    if isinstance(message, Message):
        return message
    if callable(dump := getattr(message, "model_dump", None)) and not isinstance(message, type):
        message = dump(exclude_none=True)
    return Message.from_json(message)


def to_messages(messages: "str | MessageLike | Iterable[MessageLike]") -> tuple[Message, ...]:
    """Return the messages of a list; a text is one message of the user. Raises RequestError."""
    if isinstance(messages, str):
        return (Message("user", messages),)
    if isinstance(messages, Message | Mapping) or hasattr(messages, "model_dump"):
        return (to_message(messages),)
    if isinstance(messages, bytes) or not isinstance(messages, Iterable):
        raise RequestError(
            f"messages must be text or a list of messages, not {type(messages).__name__}",
            hint='pass [{"role": "user", "content": "…"}]',
        )
    return tuple(to_message(message) for message in messages)


def with_pictures(
    message: "str | MessageLike | Iterable[MessageLike]", pictures: Iterable[PictureLike]
) -> tuple[Message, ...]:
    """Return the messages of a list, or the user's message of a text and pictures. Raises RequestError."""
    found = to_pictures(pictures)
    if not found:
        return to_messages(message)
    if not isinstance(message, str):
        raise RequestError(
            "pictures were passed beside a message that is not text",
            hint='put them into it: Message("user", text, pictures=[…])',
        )
    return (Message("user", message, pictures=found),)


def _normalize(value: object, whose: str, *fields: str) -> None:
    """Replace lone surrogates in these fields of a frozen value. Raises RequestError for a field that is not text."""
    for name in fields:
        text = getattr(value, name)
        require(f"{whose} {name}", text, str, "text")
        object.__setattr__(value, name, replace_surrogates(text))


def _part_to_json(part: str | Picture) -> dict[str, Any]:
    if isinstance(part, Picture):
        return {"type": "image_url", "image_url": {"url": part.to_url()}}
    return {"type": "text", "text": part}


def _parse_content(value: object) -> tuple[str, tuple[Picture, ...], tuple[int, ...]]:
    """Return the text, the pictures and their places in the text."""
    if value is None or isinstance(value, str):
        return value or "", (), ()
    if not isinstance(value, Sequence):
        raise RequestError(f"a message's content is {type(value).__name__}", hint="send text, or a list of parts")
    text, pictures, places = "", list[Picture](), list[int]()
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind == "text" and isinstance(part.get("text"), str):
            text += replace_surrogates(part["text"])
        elif kind == "image_url":
            pictures.append(_parse_picture(part.get("image_url")))
            places.append(len(text))
        else:
            raise RequestError(
                f"a message has content of the type {quoted(kind)}", hint="send parts of the types text and image_url"
            )
    return text, tuple(pictures), tuple(places)


def _parse_picture(value: object) -> Picture:
    url = value.get("url") if isinstance(value, Mapping) else value
    if not isinstance(url, str):
        raise RequestError("an image_url part has no URL", hint='it looks like {"image_url": {"url": "data:…"}}')
    return Picture.from_url(url)


def _parse_call(item: object) -> ToolCall:
    function = item.get("function") if isinstance(item, Mapping) else None
    if not isinstance(item, Mapping) or not isinstance(function, Mapping) or not _parse_text(function, "name"):
        raise RequestError("a tool call has no function name", hint='it looks like {"function": {"name": …}, …}')
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, Mapping):  # some clients send the object, not its text
        try:
            arguments = json.dumps(replace_surrogates_within(arguments), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as exc:
            raise RequestError(f"a tool call's arguments are not JSON: {exc}", hint="send a JSON object") from exc
    if not isinstance(arguments, str):
        raise RequestError("a tool call's arguments are not text", hint="send the arguments' JSON as a string")
    return ToolCall(_parse_text(function, "name"), arguments, _parse_text(item, "id"))


def _parse_text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise RequestError(f"a message's {key} is {type(value).__name__}", hint="it has to be text")
    return value or ""
