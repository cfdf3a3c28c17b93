"""What a tool returns: text, and where it has them pictures and citations."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .checks import require, require_all
from .events import Citation
from .pictures import Picture
from .text import replace_surrogates_within


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool returns that has more than text: `pictures`, which the model reads if it can read pictures in
    results, and which the application shows; and `citations`, the passages that the model may cite by their numbers.
    With `error` the text is that of a failure.

    Example:
        def plan() -> edge.ToolOutput:
            "The plan of the museum."
            return edge.ToolOutput("Two floors.", pictures=(edge.Picture.open("ferry.jpg"),))
    """

    text: str
    pictures: tuple[Picture, ...] = ()
    citations: tuple[Citation, ...] = ()
    error: bool = False

    def __post_init__(self) -> None:
        require_all("a tool's pictures", self.pictures, Picture, "a list of Picture")
        require_all("a tool's citations", self.citations, Citation, "a list of Citation")
        require("a tool's error", self.error, bool, "True or False")
        object.__setattr__(self, "pictures", tuple(self.pictures))
        object.__setattr__(self, "citations", tuple(self.citations))

    def truncated(self, longest: int) -> "ToolOutput":
        """Return it with at most `longest` characters of text."""
        return replace(self, text=truncate(self.text, longest))


def to_output(value: object) -> ToolOutput:
    """Return the output of what a function returned: text as it is, a picture, a list of texts and pictures, or
    anything else as JSON."""
    if isinstance(value, ToolOutput):
        return value
    if isinstance(value, Picture):
        return ToolOutput("", (value,))
    if isinstance(value, list | tuple) and any(isinstance(part, Picture) for part in value):
        return _join(value)
    return ToolOutput(_to_text(value))


def _join(parts: Iterable[Any]) -> ToolOutput:
    found = list(parts)
    texts = [_to_text(part) for part in found if not isinstance(part, Picture)]
    return ToolOutput("\n".join(texts), tuple(part for part in found if isinstance(part, Picture)))


def _to_text(value: object) -> str:
    if isinstance(value, str):
        return value
    from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

    try:
        return to_json(value, fallback=str, inf_nan_mode="strings").decode()
    except PydanticSerializationError:  # a text in it is no Unicode, such as the name of a file from elsewhere
        plain = to_jsonable_python(replace_surrogates_within(value), fallback=str)
        return to_json(replace_surrogates_within(plain), inf_nan_mode="strings").decode()


def truncate(text: str, longest: int) -> str:
    """Return at most `longest` characters of a text. The last line of a truncated one says so."""
    if len(text) <= longest:
        return text
    note = f"\n[cut off: {longest:,} of {len(text):,} characters]"
    return text[: max(longest - len(note), 0)] + note
