"""The places of pictures in a prompt, while the chat template is rendered, which knows texts alone."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import TemplateError
from ..messages import Message
from ..pictures import Picture
from .families.family import Layout
from .families.picture_format import PictureFormat
from .unused_character import find_unused_character


class PicturePlaces:
    """The pictures of messages, for the rendering of one prompt. A mark stands in each one's place in the text; a
    template that reads content in parts is given parts instead, and writes its placeholder for a picture."""

    def __init__(self, pictures: PictureFormat | None, messages: Sequence[Message]) -> None:
        self._placeholder = pictures.placeholder if pictures else None
        self._pictures = [picture for message in messages for picture in message.pictures]
        mark = find_unused_character({"messages": [_texts(message) for message in messages]}) if self._pictures else ""
        self._mark = re.compile(rf"{mark}(\d+){mark}")
        self._stand_ins = [f"{mark}{index}{mark}" for index in range(len(self._pictures))]
        self._order: list[Picture] = []  # of the pictures in the prompt: a layout may move messages

    def lay_out(
        self, layout: Layout, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """Return the template's variables, with a stand-in for each picture."""
        if not self._pictures:
            return layout(messages, tools)
        stand_ins = iter(self._stand_ins)
        marked = []
        for message in messages:
            content = "".join(next(stand_ins) if isinstance(part, Picture) else part for part in message.parts)
            marked.append(replace(message, content=content, pictures=(), picture_places=()))
        variables = layout(marked, tools)
        return {**variables, "messages": [self._place(message) for message in variables["messages"]]}

    def _place(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        content = message.get("content")
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())
        pieces = self._mark.split(text)
        if len(pieces) == 1:
            return message
        self._order += [self._pictures[int(index)] for index in pieces[1::2]]
        if self._placeholder is None:
            return message
        parts: list[Mapping[str, Any]] = []
        for place, piece in enumerate(pieces):
            if place % 2:
                parts.append({"type": "image"})
            elif piece:
                parts.append({"type": "text", "text": piece})
        return {**message, "content": parts}

    def split(self, texts: Iterable[str]) -> tuple[str | Picture, ...]:
        """Return the pieces of a rendered prompt, without empty ones, with pictures in their places. Raises
        TemplateError if the template has left out a picture."""
        if not self._pictures:
            return tuple(text for text in texts if text)
        place = self._mark if self._placeholder is None else re.compile(f"({re.escape(self._placeholder)})")
        pieces: list[str | Picture] = []
        left = iter(self._order)
        count = 0
        for text in texts:
            for number, piece in enumerate(place.split(text)):
                found = next(left, None) if number % 2 else piece
                count += number % 2
                pieces += [found] if found else []
        if count != len(self._pictures):
            raise TemplateError(
                f"the chat template shows {count} of {len(self._pictures)} pictures",
                hint="use the checkpoint's own chat template",
            )
        return tuple(pieces)


def _texts(message: Message) -> list[str]:
    calls = [text for call in message.tool_calls for text in (call.name, call.arguments, call.id)]
    return [message.content, message.reasoning, message.name, message.tool_call_id, *calls]
