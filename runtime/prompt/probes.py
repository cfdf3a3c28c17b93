"""Facts of a chat template, found by rendering probes: chats whose words are looked for in the prompt.

A template comes with a checkpoint from anyone, and the name of a format says little about it. What it does with a call
and its result, with tools, a system message and earlier reasoning shows in what it renders.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, get_args

from ..events import ToolCall
from ..messages import Message
from .compile import compile_template
from .families import REASONING_MARKS, ReasoningMarks
from .families.layout import NATIVE_RESULT, RESULT_TOKEN, CallsPlace, MessageLayout, ToolsPlace

if TYPE_CHECKING:
    from jinja2 import Template

_QUESTION = Message("user", "probe_question")
_SYSTEM = Message("system", "probe_system")
_TOOL: Mapping[str, Any] = {
    "name": "probe_tool",
    "description": "probe_description",
    "parameters": {
        "type": "object",
        "properties": {"probe_parameter": {"type": "string", "description": "probe_text"}},
        "required": ["probe_parameter"],
    },
}
_CALL_ID = "probe0001"  # some templates want nine letters and digits
_CALL = Message("assistant", "", tool_calls=(ToolCall("probe_call", '{"probe_key": "probe_value"}', _CALL_ID),))
_RESULT = Message("tool", "probe_result", tool_call_id=_CALL_ID, name="probe_call")
_CALL_WORDS = ("probe_call", "probe_key", "probe_value", "probe_result")
_ARGUMENTS = re.compile(r'"probe_key":\s*"probe_value"')  # as JSON, not as Python or as JSON in a string

_PART = re.compile(r"""["']type["']:""")  # the list itself, as Python or JSON writes it


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What a template does: the layout that it reads, whether it shows `tools`, `calls` and `system` messages, and the
    marks of reasoning that it writes or removes."""

    layout: MessageLayout = field(default_factory=MessageLayout)
    tools: bool = False
    calls: bool = False
    system: bool = True
    reasoning: ReasoningMarks | None = None


@lru_cache(maxsize=16)
def find_facts(source: str, tokens: tuple[tuple[str, str], ...] = ()) -> TemplateFacts:
    """Return the facts of a template, to which `tokens` are given as variables. For a template that exceeds a limit,
    they are those found before. Raises jinja2.TemplateError for one that is not valid."""
    from jinja2.exceptions import SecurityError

    from .budget import render_budget

    template = compile_template(source)
    facts = TemplateFacts()
    try:
        with render_budget():  # one for all probes
            for found in _probe(_Probe(template, dict(tokens))):
                facts = found
    except SecurityError:
        pass
    return facts


class _Probe:
    """A template that is rendered with chats it may reject."""

    def __init__(self, template: "Template", tokens: Mapping[str, str]) -> None:
        self._template = template
        self._tokens = tokens

    def render(
        self, layout: MessageLayout, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), **more: Any
    ) -> str:
        """Return the prompt, "" where the template rejects the messages. Raises SecurityError."""
        from jinja2 import TemplateError as JinjaError
        from jinja2.exceptions import SecurityError

        variables = {"documents": None, "add_generation_prompt": False} | layout(messages, tools) | more
        try:
            return self._template.render(**self._tokens, **variables)
        except SecurityError:
            raise
        except (JinjaError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError):
            return ""


def _probe(probe: _Probe) -> Iterator[TemplateFacts]:
    """Yield the facts as they become known."""
    layout = MessageLayout()
    if _QUESTION.content not in probe.render(layout, [_QUESTION]):
        in_parts = replace(layout, parts=True)
        found = probe.render(in_parts, [_QUESTION])
        if _QUESTION.content in found and not _PART.search(found):
            layout = in_parts
    found = probe.render(layout, [_SYSTEM, _QUESTION])
    facts = TemplateFacts(layout, system=not found or _SYSTEM.content in found)
    yield facts
    facts = _find_tools(probe, facts)
    yield facts
    facts = _find_calls(probe, facts)
    yield facts
    yield replace(facts, reasoning=_find_reasoning(probe, facts.layout))


def _find_tools(probe: _Probe, facts: TemplateFacts) -> TemplateFacts:
    """Find the layout that shows most of a tool; the first of equals."""
    best, most = facts.layout, 0
    for messages, place in product(([_QUESTION], [_SYSTEM, _QUESTION]), get_args(ToolsPlace)):
        layout = replace(facts.layout, tools=place)
        found = probe.render(layout, messages, [_TOOL], add_generation_prompt=True)
        words = ("probe_tool", "probe_description", "probe_parameter", "probe_text")
        shown = sum(map(found.count, words)) if words[0] in found else 0
        best, most = (layout, shown) if shown > most else (best, most)
    return replace(facts, layout=best, tools=most > 0)


def _find_calls(probe: _Probe, facts: TemplateFacts) -> TemplateFacts:
    """Find a layout that shows a call and its result, of the first kind that has one; if possible with the arguments as
    valid JSON."""
    for kind in get_args(CallsPlace):
        shown = None
        for layout, tools in product(_call_layouts(facts.layout, kind), ([_TOOL], [])):
            found = _render_call(probe, layout, tools)
            if not all(word in found for word in _CALL_WORDS):
                continue
            if layout.result_role == NATIVE_RESULT and kind == "text" and RESULT_TOKEN not in found:
                continue
            if found == _render_call(probe, replace(layout, result_role="assistant"), tools):
                continue  # the result would be words of the assistant
            if _ARGUMENTS.search(found):
                return replace(facts, layout=layout, calls=True)
            shown = shown or layout
        if shown:
            return replace(facts, layout=shown, calls=True)
    return replace(facts, layout=replace(facts.layout, calls="text", result_role="user"))


def _render_call(probe: _Probe, layout: MessageLayout, tools: Sequence[Mapping[str, Any]]) -> str:
    return probe.render(layout, [_QUESTION, _CALL, _RESULT], tools, add_generation_prompt=True)


def _call_layouts(layout: MessageLayout, kind: CallsPlace) -> Iterator[MessageLayout]:
    if kind == "tool_calls":
        for role, function, parsed in product(("tool", NATIVE_RESULT, "function"), (True, False), (False, True)):
            yield replace(layout, calls=kind, function=function, parsed=parsed, result_role=role)
    else:
        for role in (NATIVE_RESULT, "tool", "user" if kind == "text" else "function"):
            yield replace(layout, calls=kind, result_role=role)


def _find_reasoning(probe: _Probe, layout: MessageLayout) -> ReasoningMarks | None:
    """Find the marks that a template puts before a reply or round earlier reasoning, or that it removes with it."""
    prompt = probe.render(layout, [_QUESTION], add_generation_prompt=True)
    reasoned = Message("assistant", "probe_answer", "probe_thought")
    shown = probe.render(layout, [_QUESTION, reasoned])
    for marks in REASONING_MARKS:
        prompted = prompt.rstrip().endswith(marks.open)
        if marks.open in prompt or (marks.open in shown and "probe_thought" in shown):
            return replace(marks, prompted=prompted)
        written = Message("assistant", f"{marks.open}\nprobe_thought\n{marks.close}\n\nprobe_answer")
        earlier = probe.render(layout, [_QUESTION, written, _QUESTION])
        if "probe_answer" in earlier and "probe_thought" not in earlier:
            return marks
    return None
