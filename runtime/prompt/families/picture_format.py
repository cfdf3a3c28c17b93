"""How a family's prompts show pictures, and which chats may have some."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import RequestError
from ...messages import Message, Role


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """The facts of a family's pictures.

    `placeholder` is what the template writes for a part {"type": "image"} of a message's content; a picture takes its
    place. None for a template that reads text alone: a picture then stands in the text, and brings the tokens round it.

    Limits, as the model was trained: at most so many `pictures` in a chat (None: any number), in messages of these
    `roles`, or in the `first_message` alone; `tools` and `system` are whether a chat may have these.
    """

    placeholder: str | None = None
    pictures: int | None = None
    roles: tuple[Role, ...] = ("user",)
    first_message: bool = False
    tools: bool = True
    system: bool = True

    def require_supported(self, model: str, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> None:
        """Raise RequestError, with the name of the `model`, for a chat that it was not trained for."""
        if tools and not self.tools:
            raise RequestError(f"{model} supports no tools", hint="leave them out")
        if not self.system and any(message.role == "system" for message in messages):
            raise RequestError(f"{model} supports no system message", hint="put it into the first question")
        count = sum(len(message.pictures) for message in messages)
        if self.pictures is not None and count > self.pictures:
            raise RequestError(
                f"{model} supports {_number(self.pictures)} in a chat, and this one has {count}",
                hint="begin a new chat for another picture",
            )
        chat = [message for message in messages if message.role != "system"]
        for index, message in enumerate(chat):
            if message.pictures and message.role not in self.roles:
                raise RequestError(
                    f"{model} supports no picture in a message of the role {message.role}",
                    hint=f"send it in one of the role {' or '.join(self.roles)}",
                )
            if message.pictures and index and self.first_message:
                raise RequestError(
                    f"{model} supports a picture in the first message alone", hint="begin a new chat with the picture"
                )


def _number(count: int) -> str:
    return "one picture" if count == 1 else f"{count} pictures"
