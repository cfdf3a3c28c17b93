"""The schemas of tools: shown to the model whatever they are, enforced where that is asked for."""

import json
from dataclasses import replace

import pytest

from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.errors import RequestError, UnsupportedGrammar
from runtime.grammar.grammar import JsonObject, JsonSchema
from runtime.model import Model
from runtime.reply.constraint import Constraint
from runtime.reply.reply import Reply

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from .serving import scripted, serving_ours  # noqa: E402
from .test_server import ASK, CHAT, ask  # noqa: E402


def arguments(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def nested(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return arguments(a=schema)


UNSUPPORTED = arguments(a={"$ref": "https://example.com/schema.json#/a"})  # in another document
INVALID = arguments(a={"type": "string", "maxLength": -1})
SHOWN = {
    "a default": arguments(timeout={"type": "integer", "default": 120000}),
    "zip codes": arguments(zip={"enum": [10115, 99999]}),
    "the integers of zod": arguments(n={"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991}),
    "a count": arguments(text={"type": "string", "maxLength": 10**9}),
    "an unsupported one": UNSUPPORTED,
    "an invalid one": INVALID,
    "no types": arguments(a={"type": "STRING"}),
    "depth": nested(110),
    "another draft": {"$schema": "http://json-schema.org/draft-03/schema#", "extends": {"disallow": "any"}},
    "no schema": {"type": "object", "properties": ["a"]},
}


def tool(schema, **function):
    return {"type": "function", "function": {"name": "act", "parameters": schema} | function}


@pytest.mark.parametrize("schema", SHOWN.values(), ids=SHOWN.keys())
def test_a_schema_that_is_not_enforced_is_shown_as_it_is(bare_folder, schema):
    with scripted(bare_folder, ["\nYes."] * 3) as (url, _, engine), httpx2.Client(base_url=url, timeout=60) as client:
        for choice in ("auto", "none", None):
            assert ask(client, tools=[tool(schema)], tool_choice=choice)["choices"][0]["message"]["content"] == "Yes."
    shown = ["".join(request.prompt) for request in engine.requests]
    text = "".join(json.dumps(schema).split())
    assert [text in "".join(prompt.split()) for prompt in shown] == [True, False, True]
    assert [request.grammar for request in engine.requests] == [None] * 3
    chat = Chat(Model(bare_folder, backend=Echo(["\nYes."])), tools=[tool(schema)])
    assert chat.send("?").text == "Yes."


@pytest.fixture(scope="module")
def model(demo_folder):
    with Model(demo_folder) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def client(demo_folder):
    with serving_ours(demo_folder.path) as (url, _), httpx2.Client(base_url=url, timeout=120) as client:
        yield client


CHOICES = ["required", {"type": "function", "function": {"name": "act"}}]


@pytest.mark.parametrize("choice", CHOICES, ids=["required", "named"])
def test_a_required_call_without_strict_is_a_json_object_at_least(model, client, choice):
    definition = tool(UNSUPPORTED)
    reply = model.reply("?", [definition], tool_choice=choice, max_tokens=60)
    assert [call.name for call in Reply.from_events(reply).tool_calls] == ["act"]
    message = ask(client, tools=[definition], tool_choice=choice, max_tokens=60)["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["arguments"].startswith("{")


@pytest.mark.parametrize("choice", CHOICES, ids=["required", "named"])
def test_a_required_call_without_strict_follows_a_supported_schema(model, client, choice):
    definition = tool(arguments(open={"type": "boolean"}))
    constraint = Constraint.for_tools([definition["function"]], choice)
    assert constraint.arguments["act"].strict is False
    (call,) = Reply.from_events(
        model.reply("?", [definition], constraint=replace(constraint, one_call=True))
    ).tool_calls
    assert type(json.loads(call.arguments)["open"]) is bool
    message = ask(client, tools=[definition], tool_choice=choice, parallel_tool_calls=False)["choices"][0]["message"]
    assert type(json.loads(message["tool_calls"][0]["function"]["arguments"])["open"]) is bool


@pytest.mark.parametrize("choice", ["auto", *CHOICES], ids=["auto", "required", "named"])
@pytest.mark.parametrize("schema", [UNSUPPORTED, INVALID], ids=["unsupported", "invalid"])
def test_a_strict_schema_is_enforced_or_rejected(model, client, choice, schema):
    with pytest.raises(RequestError):
        list(model.reply("?", [tool(schema)], tool_choice=choice, strict=True))
    refused = client.post(CHAT, json=ASK | {"tools": [tool(schema, strict=True)], "tool_choice": choice})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools[0].function.parameters")
    body = {"input": "?", "tools": [{"type": "function", "name": "act", "parameters": schema, "strict": True}]}
    refused = client.post("/v1/responses", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools[0].parameters")


@pytest.mark.parametrize("choice", CHOICES, ids=["required", "named"])
def test_the_invalid_schema_of_a_required_call_is_rejected_with_its_json_pointer(model, client, choice):
    with pytest.raises(RequestError, match="#/properties/a/maxLength is -1"):
        model.reply("?", [tool(INVALID)], tool_choice=choice)
    refused = client.post(CHAT, json=ASK | {"tools": [tool(INVALID)], "tool_choice": choice}).json()["error"]
    assert refused["param"] == "tools[0].function.parameters"
    assert "#/properties/a/maxLength is -1" in refused["message"]


def test_only_a_schema_that_is_not_strict_is_replaced(bare_folder):
    class Rejects(Echo):
        def admit(self, grammar, cancellation):
            if isinstance(grammar, JsonSchema):
                raise UnsupportedGrammar("it takes too long", hint="simplify it", grammar=grammar)

    definition = tool(arguments(open={"type": "boolean"}))["function"]
    engine = Rejects(["act\n", "{}", ""])
    model = Model(bare_folder, backend=engine)
    assert Reply.from_events(model.reply("?", [definition], tool_choice="act")).tool_calls
    assert engine.requests[1].grammar == JsonObject()
    with pytest.raises(UnsupportedGrammar):
        list(model.reply("?", [definition], tool_choice="act", strict=True))
    loose = Constraint(answer=JsonSchema.from_schema({"type": "boolean"}, strict=False))
    assert Reply.from_events(model.reply("?", constraint=loose)).text
    assert engine.requests[-1].grammar == JsonObject()
