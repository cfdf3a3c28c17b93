"""The content of a message, put together from passages of text and pictures."""

from collections.abc import Callable, Iterable
from typing import Any

from runtime.errors import RequestError
from runtime.messages import Message, Role
from runtime.pictures import Picture

from ..errors import ApiError


class Content:
    """Passages, each on lines of its own, and pictures between them."""

    def __init__(self, parts: Iterable[str | Picture] = ()) -> None:
        self.text = ""
        self.pictures: list[Picture] = []
        self.places: list[int] = []
        for part in parts:
            self.add(part)

    def __bool__(self) -> bool:
        return bool(self.text or self.pictures)

    def add(self, part: str | Picture) -> None:
        """Add a passage or a picture."""
        if isinstance(part, Picture):
            self.pictures.append(part)
            self.places.append(len(self.text))
        elif part:
            self.text = f"{self.text}\n{part}" if self.text else part

    def message(self, role: Role, **fields: Any) -> Message:
        """Return a message with this content; the other fields are Message's."""
        return Message(role, self.text, pictures=tuple(self.pictures), picture_places=tuple(self.places), **fields)


def read_base64(data: object, param: str) -> Picture:
    """Return the picture of a file in base64, or of a `data:` URL. Raises ApiError."""
    is_url = isinstance(data, str) and data[:5].lower() == "data:"
    return _read(data, param, Picture.from_url if is_url else Picture.from_base64)


def read_url(url: object, param: str) -> Picture:
    """Return the picture of a `data:` URL. Raises ApiError, also for any other URL."""
    return _read(url, param, Picture.from_url)


def _read(data: Any, param: str, read: Callable[[Any], Picture]) -> Picture:
    try:
        return read(data)
    except RequestError as exc:
        raise ApiError(400, f"{param}: {exc}; {exc.hint}", param=param, code="invalid_value") from exc
