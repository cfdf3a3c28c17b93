"""The messages of a chat: frozen values, in our layout and in OpenAI's."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .checks import normalize_fields, require_all, require_integer
from .errors import RequestError
from .events import ToolCall
from .pictures import Picture, PictureLike, to_pictures
from .text import quoted, replace_surrogates, replace_surrogates_within

Role = Literal["system", "user", "assistant", "tool"]


_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


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
        normalize_fields(self, "a message's", "content", "reasoning", "tool_call_id", "name")
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
