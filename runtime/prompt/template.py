"""Rendering messages and tools into a prompt with the checkpoint's own Jinja chat template.

A prompt is a tuple of pieces, whose concatenation is the text. An engine tokenizes each piece on its own. The pieces
are split inside special tokens that a user typed: `<|assistant|>` in a message is text to the model, never a role.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..chat_templates import DEFAULT, ChatTemplates
from ..checks import require
from ..errors import RequestError, TemplateError
from ..messages import Message
from ..text import one_line, quoted, replace_surrogates
from .compile import compile_template
from .families import Family
from .families.family import Layout
from .probes import TemplateFacts, find_facts

Prompt = tuple[str, ...]

_OWN_VARIABLES = ("messages", "tools", "add_generation_prompt")

# Candidates for the split mark: a character that occurs in no text of these messages, neither as such nor as its JSON
# escape. Unicode's noncharacters are for internal use, those of the private use area for anyone's.
_MARKS = [*range(0xFDD0, 0xFDF0), *range(0xE000, 0xF900)]
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")


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
        variables = further | {**self._layout(source)(messages, tools)}
        try:
            mark = _find_unused_character(variables)
            guarded = _map_text(
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
        return tuple(piece for piece in pieces if piece)


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


def _map_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_map_text(key, change): _map_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_text(item, change) for item in value]
    return value


def _find_unused_character(variables: Mapping[str, Any]) -> str:
    texts: list[str] = []
    spelled: set[int] = set()

    def note(text: str) -> str:
        texts.append(text)
        spelled.update(int(code, 16) for code in _ESCAPED.findall(text))
        return text

    _map_text(variables, note)
    for mark in _MARKS[:4]:  # a look for one is quick; a set of all characters takes ten times as long
        if mark not in spelled and not any(chr(mark) in text for text in texts):
            return chr(mark)
    used = spelled.union(*(map(ord, set(text)) for text in texts))
    if free := next((chr(mark) for mark in _MARKS if mark not in used), None):
        return free
    raise TemplateError("the messages use every private character of Unicode", hint="send text, not binary data")
