"""Render dialogues with the embedded checkpoint's chat template."""

from functools import cache
from typing import TYPE_CHECKING

from runtime.prompt.compile import compile_template

from .. import CHECKPOINT
from .dialogues import Dialogue

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = CHECKPOINT / "chat_template.jinja"


@cache
def template() -> "Template":
    """The embedded checkpoint's template."""
    return compile_template(TEMPLATE.read_text(encoding="utf-8"))


def render(dialogue: Dialogue) -> str:
    """Return the prompt of a dialogue's last reply, with special tokens spelled out."""
    return template().render(messages=dialogue.messages, tools=dialogue.tools, add_generation_prompt=True)
