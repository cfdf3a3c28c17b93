"""What is particular to one prompt format, in one record."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...messages import Message

Layout = Callable[[Sequence[Message], Sequence[Mapping[str, Any]]], Mapping[str, Any]]

# A chat template is known by what it makes of a question with this tool offered.
PROBE: Mapping[str, Any] = {"name": "probe_tool", "description": "", "parameters": {"type": "object", "properties": {}}}

# What every family's special tokens look like.
SPECIAL_TOKEN = re.compile(r"<\|[^|<>\s]{1,40}\|>|\[s?g?MASK\]|<[se]op>")


@dataclass(frozen=True, slots=True)
class ReasoningMarks:
    """What stands around a model's reasoning. `prompted`: the prompt holds the opening mark, so the reply does not."""

    open: str
    close: str
    prompted: bool


@dataclass(frozen=True, slots=True)
class Family:
    """The facts of a prompt format. Looked up once, by `detect`; its name stands in the manifest.

    `model_types` are those of config.json, and `recognise` tells by the prompt of the probe whether a template is this
    family's. `layout` turns messages and tools (JSON: name, description, parameters) into the template's variables.
    `stop_tokens` end a reply. `call_start` may stand before every call of a reply but the first;
    `call_syntaxes` name the ways in which calls are written (`runtime/reply/syntaxes.py`).
    `tools`: the template shows the tools that are offered; `own_tools` are those it brings itself, whatever is offered;
    `built_in` are those that it describes in its own words when they are offered as such (`Tool.built_in`).
    `system`: it shows system messages. `prefix` opens the prompt of a plain completion.
    """

    name: str
    summary: str
    model_types: tuple[str, ...]
    matches: Callable[[str], bool]
    layout: Layout
    stop_tokens: tuple[str, ...] = ("<|endoftext|>", "<|user|>", "<|observation|>")
    call_start: str = "<|assistant|>"
    call_syntaxes: tuple[str, ...] = ("json",)
    prefix: str = "[gMASK]<sop>"
    reasoning: ReasoningMarks | None = None
    tools: bool = True
    own_tools: tuple[str, ...] = ()
    built_in: tuple[str, ...] = ()
    system: bool = True


def renders_probe(prompt: str) -> bool:
    """Whether a template laid out the tools that it was given."""
    return str(PROBE["name"]) in prompt
