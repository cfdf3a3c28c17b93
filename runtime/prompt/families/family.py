"""The facts of a prompt format, in one record."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...messages import Message
from .picture_format import PictureFormat
from .reasoning import ReasoningMarks

Layout = Callable[[Sequence[Message], Sequence[Mapping[str, Any]]], Mapping[str, Any]]

# Families are detected by the prompt that a chat template renders for a question with this tool.
PROBE: Mapping[str, Any] = {"name": "probe_tool", "description": "", "parameters": {"type": "object", "properties": {}}}

# The form of special tokens, the same in every family.
SPECIAL_TOKEN = re.compile(r"<\|[^|<>\s]{1,40}\|>|\[s?g?MASK\]|<[se]op>")


@dataclass(frozen=True, slots=True)
class Family:
    """The facts of one prompt format, looked up once by `detect_family`. The manifest records its name.

    Detection: `model_types` are config.json's, and `matches` decides from the prompt that a template renders for PROBE.
    Prompt: `layout` turns messages and tools (JSON objects with a name) into the template's variables; without one, the
    layout is found by rendering the template. `prefix` opens the prompt of a plain completion; `system` is whether the
    template shows system messages.
    Pictures: a family of vision models has `pictures`, the others None. `template` is the chat template of a checkpoint
    that comes without one.
    Tools: `tools` is whether the template shows the tools that a chat offers; `own_tools` are those that it always
    brings itself; `built_in` are those that it describes in its own words if a chat offers them (`Tool.built_in`).
    `result_picture` stands for a picture in the result of a tool, where the model was trained with such a text.
    Reply: `stop_tokens` end it, `call_start` may stand before each of its tool calls but the first, and `call_syntaxes`
    name the ways in which calls are written (`runtime/reply/calls/syntaxes.py`).
    """

    name: str
    summary: str
    model_types: tuple[str, ...]
    matches: Callable[[str], bool]
    layout: Layout | None = None
    stop_tokens: tuple[str, ...] = ("<|endoftext|>", "<|user|>", "<|observation|>")
    call_start: str = "<|assistant|>"
    call_syntaxes: tuple[str, ...] = ("json",)
    prefix: str = "[gMASK]<sop>"
    reasoning: ReasoningMarks | None = None
    tools: bool = True
    own_tools: tuple[str, ...] = ()
    built_in: tuple[str, ...] = ()
    result_picture: str = ""
    system: bool = True
    pictures: PictureFormat | None = None
    template: str = ""


def renders_probe(prompt: str) -> bool:
    """Return whether a prompt shows the tool PROBE."""
    return str(PROBE["name"]) in prompt
