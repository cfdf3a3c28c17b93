"""Dialogues as prompt text, with the embedded checkpoint's own chat template."""

import json
from functools import cache
from typing import Any

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from . import CHECKPOINT
from .dialogues import Dialogue

TEMPLATE = CHECKPOINT / "chat_template.jinja"


def compiled(source: str) -> Template:
    """A chat template, compiled as transformers compiles it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    environment.filters["tojson"] = tojson
    return environment.from_string(source)


@cache
def template() -> Template:
    """The embedded checkpoint's template."""
    return compiled(TEMPLATE.read_text(encoding="utf-8"))


def render(said: Dialogue) -> str:
    """The prompt of a dialogue's last reply, special tokens spelled out."""
    return template().render(messages=said.messages, tools=said.tools, add_generation_prompt=True)
