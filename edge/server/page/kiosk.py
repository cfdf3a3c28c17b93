"""The kiosk, the chat page on a public screen: its settings, and the fields that its visitors may not set."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.errors import RequestError
from runtime.messages import Message
from runtime.system.files import expand_user, read_bounded
from runtime.text import one_line

from ..errors import ApiError
from ..generation.fields import SamplingFields, TokenCount

Language = Literal["en", "zh"]
ShortText = Annotated[str, Field(min_length=1, max_length=200)]
MAX_BYTES = 32_000  # of a file: tomllib's time grows with the square of a key's number of parts


class Kiosk(BaseModel):
    """Settings of a kiosk. `idle` is the number of seconds without a touch after which the page forgets the
    conversation; `max_tokens` bounds each reply; `pictures` is whether visitors may send pictures; `read_aloud`
    whether replies are read aloud. Without `language`,
    the browser's own is used. `title` and `suggestions` may be given per language."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = ""
    idle: Annotated[int, Field(ge=10, le=3600)] = 60
    max_tokens: TokenCount = 1024
    pictures: bool = False
    read_aloud: bool = False
    language: Language | None = None
    title: ShortText | dict[Language, ShortText] = ""
    suggestions: (
        Annotated[list[ShortText], Field(max_length=8)]
        | dict[Language, Annotated[list[ShortText], Field(max_length=8)]]
    ) = []

    @classmethod
    def load(cls, path: str) -> "Kiosk":
        """Load the settings from a TOML file. Raises RequestError for an unreadable file or an unknown setting."""
        try:
            table = tomllib.loads(read_bounded(expand_user(path), MAX_BYTES).decode("utf-8-sig"))
        except OSError as exc:
            raise RequestError(f"{path} cannot be read: {exc.strerror}", hint="pass the path of a TOML file") from exc
        except (ValueError, RecursionError) as exc:
            what = "it is nested too deeply" if isinstance(exc, RecursionError) else one_line(exc)
            raise RequestError(f"{path} is not TOML: {what}", hint='write lines such as title = "Museum"') from exc
        return cls.parse(table, f"{path}: ")

    @classmethod
    def parse(cls, table: Mapping[str, Any], where: str) -> "Kiosk":
        """Return the settings of a table; `where` begins its errors. Raises RequestError for an unknown setting."""
        try:
            return cls.model_validate(table, strict=True)
        except ValidationError as exc:
            error = exc.errors(include_url=False)[0]
            key = ".".join(one_line(part, 80) for part in error["loc"][:1])
            raise RequestError(
                f"{where}{key}: {error['msg']}", hint=f"a kiosk's settings are {', '.join(cls.model_fields)}"
            ) from exc

    def reject_overrides(self, body: SamplingFields, messages: Sequence[Message]) -> None:
        """Raise ApiError (403) if a visitor's request sets what the kiosk sets."""
        for field in sorted(body.model_fields_set - {"messages", "stream"}):
            if getattr(body, field) is not None:
                raise ApiError(403, f"this is a kiosk: the server sets {field}", param=field, code="kiosk")
        if any(message.pictures for message in messages) and not self.pictures:
            raise ApiError(403, "this is a kiosk without pictures", param="messages", code="kiosk")
        if any(message.role == "system" for message in messages):
            raise ApiError(403, "this is a kiosk: the server sets the system prompt", param="messages", code="kiosk")
