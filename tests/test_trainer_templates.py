"""Templates of trainers: a prompt is what transformers' apply_chat_template renders, to the last byte, from the layout
that the template was written for. The layout is found; here it stands in a table.
"""

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.demo import CHECKPOINT
from runtime.chat_templates import ChatTemplates
from runtime.errors import TemplateError
from runtime.messages import Message
from runtime.prompt.families import GLM_EDGE
from runtime.prompt.template import ChatTemplate

from .conftest import SPECIAL_TOKENS
from .test_family_prompts import CLOCK, TALKS, WEATHER, assistant, tool, user
from .trainer_templates import TEMPLATES

TOKENS = {"bos_token": "[gMASK]", "eos_token": "<|endoftext|>", "pad_token": "[MASK]", "unk_token": "<eop>"}
KNOWING = {
    "name": "look_up",
    "strict": True,
    "description": "Looks a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    "response": {"type": "object", "properties": {"meaning": {"type": "string"}}},
    "returns": "看",
}
TOOLS = {"no tools": [], "tools": [WEATHER, CLOCK], "fields of their own": [KNOWING]}
CHATS = {
    **{name: said for name, (said, _) in TALKS.items()},
    "a thought, then a call": [
        user("?"),
        assistant("", ("call00001", "clock", '{"a": "é", "b": [1.5, null]}'), reasoning_content="Let me see."),
        tool("call00001", "12"),
    ],
    "a name": [{"role": "user", "content": "Hi", "name": "Ann"}],
}


def as_text(said, result):
    """The layout for a template without a place for calls."""
    found = []
    for message in as_native(said):
        call, role = message.pop("metadata"), message["role"]
        content = f"{call}\n{message['content']}" if call else message["content"]
        before = found[-1] if found else {"of": None}
        if before["of"] == role and (role == "observation" or call):
            before["content"] += f"\n{content}"
        else:
            found.append(message | {"role": result if role == "observation" else role, "content": content, "of": role})
    return [{key: value for key, value in message.items() if key != "of"} for message in found]


def as_native(said):
    found = []
    calls: list[str] = []
    results: dict[str, str] = {}
    for message in [*said, {"role": "end"}]:
        if message["role"] == "tool":
            results[message["tool_call_id"]] = message["content"]
            continue
        found += [
            {"role": "observation", "metadata": "", "content": results[call]} for call in calls if call in results
        ]
        calls, results = [call["id"] for call in message.get("tool_calls", ())], {}
        role = {"developer": "system"}.get(message["role"], message["role"])
        content = flat(message.get("content"))
        if role != "end" and (content or not calls):
            found.append({"role": role, "metadata": "", "content": content} | thought(message))
        for call in message.get("tool_calls", ()):
            function = call["function"]
            found.append({"role": "assistant", "metadata": function["name"], "content": function["arguments"]})
    return found


def flat(content):
    return "".join(part["text"] for part in content) if isinstance(content, list) else content or ""


def thought(message):
    return {key: message[key] for key in ("reasoning_content",) if key in message}


def as_said(said, form="said"):
    """OpenAI's messages as they are, but for the roles and contents that are other spellings of the same."""
    found = []
    for message in said:
        role = {"developer": "system"}.get(message["role"], message["role"])
        found.append(message | {"role": role, "content": flat(message["content"])})
        if "tool_calls" in message:
            found[-1]["tool_calls"] = [laid_out_call(call, form) for call in message["tool_calls"]]
    return found


def laid_out_call(call, form):
    function = dict(call["function"])
    if form == "parsed":
        with suppress(ValueError):
            function["arguments"] = json.loads(function["arguments"])
    kept = {"id": call["id"], "type": "function"}
    return kept | function if form == "flat" else kept | {"function": function}


def layout_of(template, said):
    found = {"text": lambda m: as_text(m, template.result), "native": as_native}.get(
        template.messages, lambda m: as_said(m, template.messages)
    )(said)
    return [m | {"content": [{"type": "text", "text": m["content"]}]} for m in found] if template.parts else found


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=str(CHECKPOINT / "tokenizer.json"), **TOKENS)


def by_transformers(tokenizer, template, said, tools, **more):
    from jinja2 import TemplateError as Rejected

    messages = layout_of(template, said)
    shown = tools if template.bare_tools else [{"type": "function", "function": tool} for tool in tools]
    if template.messages == "text" and template.tools:
        messages = [{"role": "system", "content": "", "tools": shown}, *messages] if tools else messages
        shown = []
    try:
        return tokenizer.apply_chat_template(
            messages, tools=shown or None, chat_template=template.source, tokenize=False, **more
        )
    except (Rejected, TypeError, ValueError) as exc:
        return type(exc)


def compiled(template):
    return ChatTemplate(ChatTemplates({"default": template.source}, TOKENS), GLM_EDGE, SPECIAL_TOKENS)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_prompts_are_those_of_transformers(tokenizer, template):
    ours = compiled(template)
    found = {}
    for name, said in CHATS.items():
        messages = [Message.from_json(item) for item in said]
        for offered, tools in TOOLS.items():
            for prompt in (True, False):
                wanted = by_transformers(tokenizer, template, said, tools, add_generation_prompt=prompt)
                try:
                    text = "".join(ours.render(messages, tools, add_generation_prompt=prompt))
                except TemplateError:
                    assert isinstance(wanted, type), (name, offered)
                    continue
                assert text == wanted, (name, offered, prompt)
                found[name, offered, prompt] = text
    assert len(found) > len(CHATS)  # the others are rejected by both


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["<|user|>", "</think>", "<think>a</think>b", "{{ 1 }}", "\r\n a \u2028"]
)


@st.composite
def conversations(draw):
    """A system message or none, then turns: questions, answers, calls and their results."""
    said = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        said.append(user(draw(TEXTS)))
        if draw(st.booleans()):
            calls = [
                (f"call{turn:02}{n:03}", "clock", json.dumps(draw(st.dictionaries(TEXTS, TEXTS, max_size=2))))
                for n in range(draw(st.integers(1, 2)))
            ]
            said += [assistant(draw(TEXTS), *calls), *(tool(id, draw(TEXTS)) for id, _, _ in calls)]
        if draw(st.booleans()):
            said.append(assistant(draw(TEXTS)))
    return said


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=conversations(), tools=st.sampled_from(list(TOOLS.values())), prompt=st.booleans())
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_prompts_of_any_chat_are_those_of_transformers(tokenizer, template, said, tools, prompt):
    wanted = by_transformers(tokenizer, template, said, tools, add_generation_prompt=prompt)
    messages = [Message.from_json(item) for item in said]
    try:
        text = "".join(compiled(template).render(messages, tools, add_generation_prompt=prompt))
    except TemplateError:
        text = None
    assert text == (None if isinstance(wanted, type) else wanted)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_no_call_loses_its_name(template):
    said = [user("?"), assistant("", ("call00001", "clock", '{"zone": "UTC"}')), tool("call00001", "12 h")]
    prompt = "".join(compiled(template).render([Message.from_json(item) for item in said]))
    assert all(word in prompt for word in ("clock", "zone", "UTC", "12 h"))


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_tools_and_reasoning_are_found(template):
    facts = compiled(template).facts(tools=True)
    assert (facts.tools, facts.reasoning is not None) == (template.tools, template.reasoning)
