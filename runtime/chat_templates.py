"""The chat templates of a checkpoint, by name, with the special tokens that they refer to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import RequestError
from .text import quoted

DEFAULT, TOOL_USE = "default", "tool_use"
FILE = "chat_template.jinja"  # the default template, in a checkpoint and in a model folder
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAMED_FILE = re.compile(rf"chat_template\.({_NAME.pattern})\.jinja")


@dataclass(frozen=True, slots=True)
class ChatTemplates:
    """The Jinja sources of a checkpoint's chat templates by name, one of them "default", and its `tokens` under the
    names of the variables that templates read them from: `bos_token`, `eos_token` and the like."""

    named: Mapping[str, str]
    tokens: Mapping[str, str] = field(default_factory=dict)

    @property
    def default(self) -> str:
        """The template of chats without tools."""
        return self.named[DEFAULT]

    def select(self, *, tools: bool, name: str | None = None) -> str:
        """Return the template for a chat, as transformers selects it: the one that is asked for by `name`, else
        "tool_use" where there are `tools`. Raises RequestError for a name that no template has."""
        if name is None:
            return self.named.get(TOOL_USE, self.default) if tools else self.default
        if name not in self.named:
            raise RequestError(
                f"the model has no chat template {quoted(name)}; it has {', '.join(sorted(self.named))}",
                hint="pass one of these names as chat_template, or none",
            )
        return self.named[name]


def is_template_name(name: object) -> bool:
    """Return whether a template can have this name, which becomes part of a file's."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def file_name(name: str) -> str:
    """Return the name of a template's file in a model folder."""
    return FILE if name == DEFAULT else f"chat_template.{name}.jinja"


def template_name(file: str) -> str | None:
    """Return the name of the template in a model folder's file; None for any other file."""
    if file == FILE:
        return DEFAULT
    found = _NAMED_FILE.fullmatch(file)
    return found[1] if found else None
