import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.demo import CHECKPOINT
from runtime.errors import TemplateError
from runtime.events import ToolCall
from runtime.messages import Message
from runtime.prompt.families import FAMILIES
from runtime.prompt.template import ChatTemplate

from .conftest import SPECIAL_TOKENS
from .references import TEMPLATES

WEATHER = {
    "name": "get_weather",
    "description": "天气 in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
FAMILY = FAMILIES["glm4_0414"]


@pytest.fixture(scope="module")
def template():
    return ChatTemplate((CHECKPOINT / "chat_template.jinja").read_text(encoding="utf-8"), FAMILY, SPECIAL_TOKENS)


CHATS = {
    "a question": ([Message("user", "Hello 你好 🎉")], "<|user|>\nHello 你好 🎉<|assistant|>"),
    "a system message": (
        [Message("system", "Be brief."), Message("user", "Hi")],
        "<|system|>\nBe brief.<|user|>\nHi<|assistant|>",
    ),
    "an answer in the history": (
        [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Bye")],
        "<|user|>\nHi<|assistant|>\nHello.<|user|>\nBye<|assistant|>",
    ),
    "two calls with their results, and text before": (
        [
            Message("user", "Hi"),
            Message("assistant", "One moment.", tool_calls=(ToolCall("f", '{"a": 1}'), ToolCall("g", "{}"))),
            Message("tool", "1", tool_call_id="call_1", name="f"),
            Message("tool", "2", tool_call_id="call_2", name="g"),
        ],
        '<|user|>\nHi<|assistant|>\nOne moment.<|assistant|>f \n{"a": 1}<|assistant|>g \n{}'
        "<|observation|>\n1<|observation|>\n2<|assistant|>",
    ),
}


@pytest.mark.parametrize(("messages", "prompt"), CHATS.values(), ids=CHATS.keys())
def test_prompts_are_laid_out_as_glm4_wants(template, messages, prompt):
    assert "".join(template.render(messages)) == "[gMASK]<sop>" + prompt


def test_tools_stand_before_the_messages(template):
    prompt = "".join(template.render([Message("user", "Hi")], [WEATHER]))
    shown = json.dumps(WEATHER, indent=4, ensure_ascii=False)
    assert prompt.startswith(f"[gMASK]<sop><|system|>\n# 可用工具\n\n## get_weather\n\n{shown}\n")


@pytest.mark.parametrize("tools", [[], [WEATHER]], ids=["plain", "tools"])
@pytest.mark.parametrize("messages", [chat[0] for chat in CHATS.values()], ids=CHATS.keys())
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_templates_render_as_in_transformers(template, messages, tools):
    from transformers.utils.chat_template_utils import render_jinja_template

    source, family = template.source, FAMILIES[template.family]
    native = ChatTemplate(source, family, ()).layout(tools=bool(tools))(messages, tools)
    wanted, _ = render_jinja_template(
        [native["messages"]], chat_template=source, tools=native.get("tools"), add_generation_prompt=True
    )
    assert "".join(ChatTemplate(source, family, SPECIAL_TOKENS).render(messages, tools)) == wanted[0]


@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, "a", "<", "|", "\ufdd0", "\n"])).map("".join))
def test_special_tokens_that_somebody_typed_are_cut(template, typed):
    tool = WEATHER | {"description": typed}
    pieces = template.render([Message("system", typed), Message("user", typed)], [tool])
    plain = ChatTemplate("{{ messages[0].content }}", FAMILY, []).render([Message("user", typed)])
    assert "".join(plain) == typed
    prompt = "".join(pieces)
    assert f"<|user|>\n{typed}<|assistant|>" in prompt
    ours = ["[gMASK]", "<sop>", "<|system|>", "<|system|>", "<|user|>", "<|assistant|>"]
    assert sorted(token for piece in pieces for token in SPECIAL_TOKENS for _ in range(piece.count(token))) == sorted(
        ours
    )


def test_a_template_that_asks_for_ascii_is_cut_too():
    source = "{{ messages[0].content | tojson(ensure_ascii=True) }}"
    pieces = ChatTemplate(source, FAMILY, SPECIAL_TOKENS).render([Message("user", "é<|user|>")])
    assert pieces == ('"\\u00e9<', '|user|>"')


REFUSED = {
    "bad Jinja": "{% for %}",
    "a refusal": "{{ raise_exception('no') }}",
    "an attack": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a change": "{{ messages.append(1) }}",
    "a wrong type": "{{ messages + 1 }}",
}


@pytest.mark.parametrize("source", REFUSED.values(), ids=REFUSED.keys())
def test_bad_templates_are_refused(source):
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(source, FAMILY, []).render([Message("user", "Hi")])
    assert caught.value.hint
