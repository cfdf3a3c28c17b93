"""Rendering messages and tools into a prompt with the checkpoint's own Jinja chat template.

A prompt is a tuple of pieces: texts, whose concatenation is the whole text, and pictures in their places. An engine
tokenizes each text on its own. They are split inside special tokens that a user typed: `<|assistant|>` in a message is
text to the model, never a role.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..chat_templates import DEFAULT, ChatTemplates
from ..checks import require
from ..errors import RequestError, TemplateError
from ..messages import Message
from ..pictures import Picture
from ..text import one_line, quoted, replace_surrogates
from .compile import compile_template
from .families import Family
from .families.family import Layout
from .picture_places import PicturePlaces
from .probes import TemplateFacts, find_facts
from .unused_character import find_unused_character, map_text

TextPrompt = tuple[str, ...]
Prompt = tuple[str | Picture, ...]

_OWN_VARIABLES = ("messages", "tools", "add_generation_prompt")


def require_text(prompt: Prompt, reader: str = "this model") -> TextPrompt:
    """Return the pieces of a prompt that has no picture. Raises RequestError, with the name of its `reader`."""
    texts = tuple(piece for piece in prompt if isinstance(piece, str))
    if len(texts) < len(prompt):
        raise RequestError(
            f"{reader} reads no pictures", hint="leave them out, or convert a vision model, such as glm-4v-9b"
        )
    return texts


class ChatTemplate:
    """The compiled chat templates of a checkpoint: one, or several by name. Raises TemplateError if one is not valid
    Jinja."""

    def __init__(self, source: str | ChatTemplates, family: Family, special_tokens: Collection[str]) -> None:
        from jinja2 import TemplateError as JinjaError

        self._templates = ChatTemplates({DEFAULT: source}) if isinstance(source, str) else source
        try:
            for template in self._templates.named.values():
                compile_template(template)
        except JinjaError as exc:
            raise TemplateError(
                f"the chat template is not valid: {one_line(exc)}", hint="use the checkpoint's own chat template"
            ) from exc
        self._family = family
        self._special = re.compile(
            "|".join(re.escape(t) for t in sorted(special_tokens, key=len, reverse=True)) or r"(?!)"
        )

    def facts(self, *, tools: bool) -> TemplateFacts:
        """Return the facts of the template for chats with `tools`, or for those without."""
        return self._facts(self._templates.select(tools=tools))

    def _facts(self, source: str) -> TemplateFacts:
        return find_facts(source, tuple(sorted(self._templates.tokens.items())))

    def layout(self, *, tools: bool) -> Layout:
        """Return the layout that the template for such chats reads."""
        return self._layout(self._templates.select(tools=tools))

    def _layout(self, source: str) -> Layout:
        return self._family.layout or self._facts(source).layout

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        variables: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """Render the prompt, in pieces. `tools` are JSON objects with a name, and mostly a description and parameters;
        `variables` are others that the template reads, such as `documents`; as in transformers, `chat_template` is the
        name of the template to render, where the checkpoint has several.

        Raises TemplateError if the template rejects the messages, RequestError for a variable that is not JSON or has a
        name of ours, and for a template that there is not.
        """
        from jinja2 import TemplateError as JinjaError
        from jinja2.exceptions import SecurityError

        from .budget import render_budget

        further = {"documents": None} | _require_variables(variables or {})
        source = self._templates.select(tools=bool(tools), name=further.pop("chat_template", None))
        template = compile_template(source)
        places = PicturePlaces(self._family.pictures, messages)
        variables = further | {**places.lay_out(self._layout(source), messages, tools)}
        try:
            mark = find_unused_character(variables)
            guarded = map_text(
                variables,
                lambda text: self._special.sub(lambda m: m[0][0] + mark + m[0][1:], replace_surrogates(text)),
            )
            with render_budget(guarded):
                text = template.render(self._templates.tokens, **guarded, add_generation_prompt=add_generation_prompt)
        except SecurityError as exc:
            raise TemplateError(
                f"the chat template exceeds a limit: {one_line(exc)}", hint="use the checkpoint's own chat template"
            ) from exc
        except (JinjaError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError) as exc:
            raise TemplateError(
                f"the chat template rejects these messages: {one_line(exc)}",
                hint="check their roles and their order",
            ) from exc
        # A template that asks for ASCII JSON escapes the mark.
        pieces = text.replace(f"\\u{ord(mark):04x}", mark).split(mark)
        return places.split(pieces)

    def render_text(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool = True,
    ) -> TextPrompt:
        """Render the prompt of messages without pictures, as `render` does."""
        return require_text(self.render(messages, tools, add_generation_prompt=add_generation_prompt))


def _require_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the variables in plain JSON types."""
    require("the template's variables", variables, Mapping, "a dict")
    for name in variables:
        if not isinstance(name, str) or name in _OWN_VARIABLES:
            raise RequestError(
                f"the chat template cannot be given a variable {quoted(name)}",
                hint=f"{', '.join(_OWN_VARIABLES)} are made of the messages and tools",
            )
    try:
        found: dict[str, Any] = json.loads(json.dumps(variables))
    except (TypeError, ValueError, RecursionError) as exc:
        raise RequestError(
            f"the template's variables are not JSON: {one_line(exc)}", hint="pass texts, numbers, lists and dicts"
        ) from exc
    return found
