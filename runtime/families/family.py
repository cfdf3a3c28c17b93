"""What is particular to one prompt format, in one record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..messages import Message

Layout = Callable[[Sequence[Message], Sequence[Mapping[str, Any]]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Family:
    """The facts of a prompt format. Looked up once, by `detect`; its name stands in the manifest.

    `layout` turns messages and tools (JSON: name, description, parameters) into the variables of the chat template.
    `stop_tokens` end a reply. `call_start` may stand before every call of a reply but the first.
    """

    name: str
    summary: str
    stop_tokens: tuple[str, ...]
    layout: Layout
    call_start: str
    tools: bool = True
