"""OpenAI's tool_choice: in Python and over HTTP, also where a tool has the name of a mode."""

import pytest

from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.errors import RequestError
from runtime.grammar.grammar import Choice
from runtime.model import Model
from runtime.reply.constraint import Constraint
from runtime.reply.tool_choice import ToolChoice

PARSED = {
    "auto": ToolChoice("auto"),
    "none": ToolChoice("none"),
    "required": ToolChoice("required"),
    "clock": ToolChoice("required", "clock"),
    "Auto": ToolChoice("required", "Auto"),
}
OBJECTS = [
    lambda name: {"type": "function", "function": {"name": name}},  # of the chat completions
    lambda name: {"type": "function", "name": name},  # of the responses
]


@pytest.mark.parametrize(("choice", "parsed"), PARSED.items())
def test_a_text_is_a_mode_or_the_name_of_a_tool(choice, parsed):
    assert ToolChoice.parse(choice) == parsed


@pytest.mark.parametrize("name", PARSED)
@pytest.mark.parametrize("form", OBJECTS)
def test_an_object_names_a_tool(form, name):
    assert ToolChoice.parse(form(name)) == ToolChoice("required", name)


@pytest.mark.parametrize("choice", [None, 1, True, [], {}, {"type": "function"}, {"type": "tool", "name": "a"}])
def test_other_choices_are_rejected(choice):
    with pytest.raises(RequestError) as caught:
        ToolChoice.parse(choice)
    assert caught.value.hint


MODES = ("none", "auto", "required")
REQUIRED = {
    "auto": (ToolChoice("auto"), ()),
    "none": (ToolChoice("none"), ()),
    "any": (ToolChoice("required"), MODES),
    "a tool named none": (ToolChoice("required", "none"), ("none",)),
    "a tool named auto": (ToolChoice("required", "auto"), ("auto",)),
}


@pytest.mark.parametrize(("choice", "required"), REQUIRED.values(), ids=REQUIRED.keys())
def test_the_tools_that_a_choice_requires(choice, required):
    assert choice.required_tools(MODES) == required


@pytest.mark.parametrize(("choice", "offered"), [(ToolChoice("required"), ()), (ToolChoice("required", "a"), MODES)])
def test_a_tool_that_is_not_offered_cannot_be_required(choice, offered):
    with pytest.raises(RequestError, match="the tools offered are none"):
        choice.required_tools(offered)


def definition(name):
    return {"name": name, "description": "", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("form", OBJECTS)
def test_a_tool_with_the_name_of_a_mode_is_demanded(bare_folder, form, name):
    tools = list(map(definition, MODES))
    assert Constraint.for_tools(tools, form(name)).must_call == (name,)
    engine = Echo([f"{name}\n", "{}", ""])
    chat = Chat(Model(bare_folder, backend=engine), tools=tools)
    assert [call.name for call in chat.send("?", tool_choice=form(name)).tool_calls] == [name]
    assert engine.requests[0].grammar == Choice((f"{name}\n",))


@pytest.mark.parametrize("name", MODES)
def test_a_client_demands_a_tool_with_the_name_of_a_mode(bare_folder, name):
    httpx2 = pytest.importorskip("httpx2")
    pytest.importorskip("starlette")
    from .serving import scripted

    replies = [f"{name}\n", "{}", ""] * 2
    ask = {"messages": [{"role": "user", "content": "?"}]}
    with scripted(bare_folder, replies) as (url, _, engine), httpx2.Client(base_url=url, trust_env=False) as client:
        nested = [{"type": "function", "function": definition(mode)} for mode in MODES]
        choice = {"type": "function", "function": {"name": name}}
        chat = client.post("/v1/chat/completions", json=ask | {"tools": nested, "tool_choice": choice}).json()
        (call,) = chat["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == name
        flat, choice = [{"type": "function"} | definition(mode) for mode in MODES], {"type": "function", "name": name}
        body = {"input": "?", "tools": flat, "tool_choice": choice}
        response = client.post("/v1/responses", json=body).json()
        assert [item["name"] for item in response["output"]] == [name]
        assert response["tool_choice"] == choice
    assert engine.requests[0].grammar == Choice((f"{name}\n",))
