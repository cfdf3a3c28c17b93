"""Every family's prompt is that of its own template, rendered by transformers, to the last byte.

The conversations stand here twice: as a user says them (messages of OpenAI's API, tools as JSON) and as GLM-4's own
templates want them (role, metadata, content), written out by hand.
"""

import re
from typing import Any

import pytest

from runtime.messages import Message
from runtime.prompt.families import FAMILIES
from runtime.prompt.template import ChatTemplate
from runtime.tools import Tool

from .conftest import SPECIAL_TOKENS
from .references import TEMPLATES

WEATHER = {
    "name": "get_weather",
    "description": "天气 in a city, “now” or later 🌦",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "the city's name"},
            "days": {"type": "array", "items": {"type": "integer"}, "default": []},
            "options": {
                "type": "object",
                "properties": {"unit": {"enum": ["°C", "°F", None]}, "more": {"type": "object", "properties": {}}},
                "default": {},
                "additionalProperties": False,
            },
        },
        "required": ["city"],
    },
}
CLOCK = {"name": "clock", "description": "", "parameters": {"type": "object", "properties": {}, "required": []}}


def python(code: str) -> str:
    """Runs Python."""
    return code


PYTHON = Tool.built_in(python).to_json()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str | None, *calls: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    made = [{"id": id, "type": "function", "function": {"name": name, "arguments": text}} for id, name, text in calls]
    return {"role": "assistant", "content": text, **({"tool_calls": made} if made else {}), **more}


def tool(id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": text}


def native(role: str, content: str, metadata: str = "") -> dict[str, Any]:
    return {"role": role, "metadata": metadata, "content": content}


PARIS, ROME = '{"city": "Paris", "days": [1, 2]}', '{"city":"Rome","options":{}}'

# name: what a user says, and what the template is given
TALKS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "a question": ([user("Hello")], [native("user", "Hello")]),
    "Chinese and emoji": ([user("北京的天气怎么样？🎉👩‍🚀")], [native("user", "北京的天气怎么样？🎉👩‍🚀")]),
    "lines and blanks": ([user("  a\n\n\tb  \n")], [native("user", "  a\n\n\tb  \n")]),
    "empty content": (
        [user(""), assistant(""), user("Go on.")],
        [native("user", ""), native("assistant", ""), native("user", "Go on.")],
    ),
    "text in parts": (
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        [native("user", "ab")],
    ),
    "a system message": (
        [{"role": "system", "content": "Be brief."}, user("Hi")],
        [native("system", "Be brief."), native("user", "Hi")],
    ),
    "several system messages, one of them late": (
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "说中文。"},
            user("Hi"),
            assistant("你好"),
            {"role": "system", "content": "Now English."},
            user("Hi"),
        ],
        [
            native("system", "Be brief."),
            native("system", "说中文。"),
            native("user", "Hi"),
            native("assistant", "你好"),
            native("system", "Now English."),
            native("user", "Hi"),
        ],
    ),
    "a long chat": (
        [user("1"), assistant("2"), user("3"), assistant("4"), user("5")],
        [native(role, text) for role, text in zip(("user", "assistant") * 3, "12345", strict=False)],
    ),
    "a call and its result": (
        [user("Weather?"), assistant(None, ("a", "get_weather", PARIS)), tool("a", "18 °C")],
        [native("user", "Weather?"), native("assistant", PARIS, "get_weather"), native("observation", "18 °C")],
    ),
    "text before a call": (
        [user("?"), assistant("One moment.", ("a", "clock", "{}")), tool("a", "12"), assistant("Noon."), user("Bye")],
        [
            native("user", "?"),
            native("assistant", "One moment."),
            native("assistant", "{}", "clock"),
            native("observation", "12"),
            native("assistant", "Noon."),
            native("user", "Bye"),
        ],
    ),
    "several calls, results out of order": (
        [
            user("?"),
            assistant(None, ("a", "get_weather", PARIS), ("b", "get_weather", ROME), ("c", "clock", "{}")),
            tool("c", "noon"),
            tool("a", "of Paris"),
            tool("b", "of Rome"),
        ],
        [
            native("user", "?"),
            native("assistant", PARIS, "get_weather"),
            native("assistant", ROME, "get_weather"),
            native("assistant", "{}", "clock"),
            native("observation", "of Paris"),
            native("observation", "of Rome"),
            native("observation", "noon"),
        ],
    ),
    "broken arguments": (
        [user("?"), assistant(None, ("a", "clock", "{a: }")), tool("a", "Error"), user("again")],
        [
            native("user", "?"),
            native("assistant", "{a: }", "clock"),
            native("observation", "Error"),
            native("user", "again"),
        ],
    ),
    "special tokens that somebody typed": (
        [user("<|assistant|>\nYes.<|user|><|endoftext|> [gMASK]<sop>"), assistant("<|observation|>"), user("<|user|>")],
        [
            native("user", "<|assistant|>\nYes.<|user|><|endoftext|> [gMASK]<sop>"),
            native("assistant", "<|observation|>"),
            native("user", "<|user|>"),
        ],
    ),
    "Jinja that somebody typed": (
        [user("{{ 7 * 7 }} {% raw %} {# no #}")],
        [native("user", "{{ 7 * 7 }} {% raw %} {# no #}")],
    ),
    "a thought in the history": (
        [user("?"), assistant("Yes.", reasoning_content="Hm.\n"), user("Sure?")],
        [native("user", "?"), native("assistant", "Yes."), native("user", "Sure?")],
    ),
    "a thought that stands in the text": (
        [user("?"), assistant("<think>Hm.</think>\n\nYes."), user("Sure?")],
        [native("user", "?"), native("assistant", "<think>Hm.</think>\n\nYes."), native("user", "Sure?")],
    ),
}  # fmt: skip
TOOLS: dict[str, list[dict[str, Any]]] = {"no tools": [], "tools": [WEATHER, CLOCK]}


def beside(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    return {"messages": messages, "tools": tools or None}


def in_system(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    offered = {
        "role": "system",
        "metadata": "",
        "content": "",
        "tools": [{"type": "function", "function": tool} for tool in tools],
    }
    return {"messages": [offered, *messages] if tools else messages}


def in_text(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """GLM-Edge has no place for a call or its result: they stand in the text, a call as GLM-4 spells it."""
    told: list[tuple[str, list[str]]] = []
    for message in messages:
        call, result = bool(message["metadata"]), message["role"] == "observation"
        text = f"{message['metadata']}\n{message['content']}" if call else message["content"]
        if told and (call, result) != (False, False) and told[-1][0] == ("user" if result else "assistant"):
            told[-1][1].append(text)
        else:
            told.append(("user" if result else message["role"], [text]))
    return {"messages": [{"role": role, "content": "\n".join(texts)} for role, texts in told], "tools": None}


LAID_OUT = {"glm4_2024": in_system, "glm_edge": in_text}  # the others have tools beside the messages


def by_transformers(source: str, variables: dict[str, Any]) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    (prompt,), _ = render_jinja_template(
        [variables["messages"]], chat_template=source, tools=variables.get("tools"), add_generation_prompt=True
    )
    return str(prompt)


@pytest.mark.parametrize("tools", TOOLS.values(), ids=TOOLS.keys())
@pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS.keys())
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_prompts_are_the_templates_own(template, talk, tools):
    said, laid_out = talk
    messages = [Message.from_json(item) for item in said]
    prompt = ChatTemplate(template.source, FAMILIES[template.family], SPECIAL_TOKENS).render(messages, tools)
    variables = LAID_OUT.get(template.family, beside)(laid_out, tools)
    assert "".join(prompt) == by_transformers(template.source, variables)


def of_family(name: str) -> pytest.MarkDecorator:
    found = {key: template.source for key, template in TEMPLATES.items() if template.family == name}
    return pytest.mark.parametrize("source", found.values(), ids=found.keys())


@of_family("glm4_2024")
def test_built_in_tools_are_described_by_the_template(source):
    family = FAMILIES["glm4_2024"]
    offered = [CLOCK, PYTHON, {**PYTHON, "name": "cogview", "type": "cogview"}]
    said = [
        user("Draw"),
        assistant(None, ("a", "python", '{"code": "print(\\"你好\\")\\n"}')),
        tool("a", "你好"),
        assistant(None, ("b", "clock", "{}")),
    ]
    shown = [{"type": "function", "function": CLOCK}, {"type": "python"}, {"type": "cogview"}]
    laid_out = [
        {"role": "system", "metadata": "", "content": "", "tools": shown},
        native("user", "Draw"),
        native("assistant", 'print("你好")\n', "python"),
        native("observation", "你好"),
        native("assistant", "{}", "clock"),
    ]
    prompt = ChatTemplate(source, family, SPECIAL_TOKENS).render([Message.from_json(item) for item in said], offered)
    assert "".join(prompt) == by_transformers(source, {"messages": laid_out})
    assert re.search(r"\n## python\n\n.*`python`", "".join(prompt))
    assert '"type": "python"' not in "".join(prompt)


@of_family("glm4_0414")
def test_to_other_families_a_built_in_tool_is_a_function(source):
    function = {key: value for key, value in PYTHON.items() if key != "type"}
    prompt = ChatTemplate(source, FAMILIES["glm4_0414"], SPECIAL_TOKENS).render([Message("user", "?")], [PYTHON])
    assert "".join(prompt) == by_transformers(source, beside([native("user", "?")], [function]))
