"""Constrained replies on the real engine. What a constraint promises holds however weak the model is."""

import json
import re
from dataclasses import replace

import pytest

from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.errors import RequestError
from runtime.events import ToolCallDelta
from runtime.grammar.grammar import Choice, JsonObject, JsonSchema, Regex
from runtime.messages import Message
from runtime.model import Model
from runtime.reply.constraint import Constraint
from runtime.reply.reply import Reply
from runtime.sampling import Sampling

WEATHER = {
    "name": "get_weather",
    "description": "Weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}
CLOCK = {"name": "clock", "description": "The time", "parameters": {"type": "object", "properties": {}}}
ASK = [Message("user", "How is the weather in Paris?")]


@pytest.fixture(scope="module")
def model(demo_folder):
    with Model(demo_folder) as loaded:
        yield loaded


def reply(model, constraint, sampling=None, tools=(WEATHER, CLOCK), messages=ASK):
    return Reply.from_events(model.reply(messages, tools, sampling or Sampling(max_new_tokens=120), constraint))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_required_call_is_valid_at_any_temperature(model, seed):
    constraint = Constraint.for_tools([WEATHER, CLOCK], "required", strict=True)
    said = reply(model, constraint, Sampling(temperature=3.0, seed=seed, max_new_tokens=200))
    for call in (call for call in said.tool_calls if call.complete):
        arguments = json.loads(call.arguments)
        if call.name == "clock":
            assert arguments == {}
        else:
            assert set(arguments) == {"city", "days"}
            assert (type(arguments["city"]), type(arguments["days"])) == (str, int)
    assert said.tool_calls
    assert said.tool_calls[0].complete


def test_one_by_name(model):
    said = reply(model, Constraint.for_tools([WEATHER, CLOCK], "clock"))
    assert (said.tool_calls[0].name, said.tool_calls[0].arguments) in (("clock", "{}"), ("clock", "{ }"))


ANSWERS = {
    "a choice": (Choice(("yes", "no")), r"yes|no"),
    "a single choice": (Choice(("maybe",)), r"maybe"),
    "Chinese choices": (Choice(("是", "否")), r"是|否"),
    "a pattern": (Regex(r"[a-c]{3}-\d{2}"), r"[a-c]{3}-\d{2}"),
}


@pytest.mark.parametrize(("grammar", "pattern"), ANSWERS.values(), ids=ANSWERS.keys())
def test_answers_are_held(model, grammar, pattern):
    assert re.fullmatch(pattern, reply(model, Constraint(answer=grammar), tools=()).text)


@pytest.mark.parametrize("seed", range(4))
def test_an_object_is_json_unless_it_is_cut_off(model, seed):
    said = reply(model, Constraint(answer=JsonObject()), Sampling(temperature=1.0, seed=seed, max_new_tokens=300), ())
    assert said.text.startswith("{")
    assert "  " not in said.text.split('"')[0]
    if said.finish_reason == "stop":
        assert isinstance(json.loads(said.text), dict)


def test_a_schema_is_held(model):
    schema = {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
    said = reply(model, Constraint(answer=JsonSchema.from_schema(schema)), tools=())
    assert type(json.loads(said.text)["open"]) is bool


def test_a_grammar_that_is_not_supported_is_refused_and_the_next_is_served(model):
    with pytest.raises(RequestError, match="the regular expression matches no text") as caught:
        reply(model, Constraint(answer=Regex(r"(?=a)b")))
    assert "\n" not in str(caught.value)
    assert reply(model, Constraint(answer=Choice(("yes",)))).text == "yes"


class Scripted(Echo):
    """Gives its replies like the fake, in any cut, whatever grammar is asked for; `requests` shows what was."""


def scripted(bare_folder, *replies):
    return Model(bare_folder, backend=Scripted(replies))


def test_auto_is_free_until_a_call_opens_and_after_it(bare_folder):
    model = scripted(
        bare_folder, 'Let me see.\nget_weather\n{"city": ignored', '{"city": "Rome", "days": 1}', "\nclock\n{", "{}", ""
    )
    events = list(model.reply(ASK, [WEATHER, CLOCK], constraint=Constraint.for_tools([WEATHER, CLOCK], strict=True)))
    said = Reply.from_events(events)
    assert [(call.name, call.arguments) for call in said.tool_calls] == [
        ("get_weather", '{"city": "Rome", "days": 1}'),
        ("clock", "{}"),
    ]
    assert said.text == "Let me see.\n"
    assert (
        "".join(event.arguments for event in events if isinstance(event, ToolCallDelta))
        == '{"city": "Rome", "days": 1}{}'
    )
    asked = model.backend.requests
    assert [type(request.grammar) for request in asked] == [type(None), JsonSchema, type(None), JsonSchema, type(None)]
    assert asked[1].prompt[-1] == "Let me see.\nget_weather\n"
    assert asked[4].prompt[-1] == 'Let me see.\nget_weather\n{"city": "Rome", "days": 1}\nclock\n{}'


def test_a_plain_answer_under_auto_is_one_free_request(bare_folder):
    model = scripted(bare_folder, "\nTools:\nget_weather\nclock\n")
    constraint = Constraint.for_tools([WEATHER, CLOCK], strict=True)
    assert reply(model, constraint).text == "Tools:\nget_weather\nclock\n"
    assert [request.grammar for request in model.backend.requests] == [None]


def test_the_token_limit_is_for_the_whole_reply(bare_folder):
    model = scripted(bare_folder, "get_weather\n{", '{"city": "Rome", "days": 1}')
    said = reply(model, Constraint.for_tools([WEATHER], strict=True), Sampling(max_new_tokens=20))
    assert said.finish_reason == "length"
    assert said.usage.completion_tokens == 20
    assert said.tool_calls[0].complete is False


def test_a_chat_demands_a_call_once(bare_folder):
    def clock() -> str:
        return "noon"

    chat = Chat(scripted(bare_folder, "clock\n", "{}", "", "\nIt is noon."), tools=[clock])
    said = chat.send("?", tool_choice="required")
    assert [result.content for result in said.tool_results] == ["noon"]
    assert said.text == "It is noon."


# What follows a forced call: what the engine writes under each request, and the number of calls.
AFTER_CALLS = {
    "nothing": (["clock\n", "{}", ""], 1),
    "text": (["clock\n", "{}", "\nIt is noon."], 1),
    "text after the assistant's token": (["clock\n", "{}", "<|assistant|>\nIt is noon."], 1),
    "text that looks like a call": (["clock\n", "{}", "\nclock\nis its name"], 1),
    "the name of a call": (["clock\n", "{}", "\nclock"], 1),
    "a call on the next line": (["clock\n", "{}", "\nclock\n{", "{}", ""], 2),
    "a call after the assistant's token": (["clock\n", "{}", "<|assistant|>clock\n{", "{}", "\nDone."], 2),
    "three calls": (["clock\n", "{}", "\nclock\n{", "{}", "\nclock\n{", "{}", "So."], 3),
}


@pytest.mark.parametrize("kind", ["required", "by name", "with an answer"])
@pytest.mark.parametrize(("written", "calls"), AFTER_CALLS.values(), ids=AFTER_CALLS.keys())
def test_no_text_follows_a_forced_call(bare_folder, kind, written, calls):
    model = scripted(bare_folder, *written)
    constraint = {
        "required": Constraint.for_tools([WEATHER, CLOCK], "required"),
        "by name": Constraint.for_tools([WEATHER, CLOCK], "clock"),
        "with an answer": replace(
            Constraint.for_tools([WEATHER, CLOCK], strict=True), answer=JsonObject(), may_call=("clock",)
        ),
    }[kind]
    said = reply(model, constraint)
    assert [(call.name, call.arguments) for call in said.tool_calls] == [("clock", "{}")] * calls
    assert (said.text, said.finish_reason) == ("", "stop")


def test_text_follows_a_call_that_was_not_forced(bare_folder):
    model = scripted(bare_folder, "clock\n{", "{}", "\nIt is noon.")
    said = reply(model, Constraint.for_tools([WEATHER, CLOCK], strict=True))
    assert (said.text, len(said.tool_calls)) == ("It is noon.", 1)


@pytest.mark.parametrize("choice", ["required", "clock"])
def test_a_choice_without_such_a_tool_is_refused(choice):
    with pytest.raises(RequestError, match="tools offered are none"):
        Constraint.for_tools([], choice)


STOPS = {
    "in one piece": (["END"], "Before END after", "Before ", "END"),
    "the first of two": (["zz", "b", "ef"], "abzz", "a", "b"),
    "nearly": (["abc"], "ab ab", "ab ab", ""),
    "none": ([], "text", "text", ""),
}


@pytest.mark.parametrize(("stops", "said", "passed", "met"), STOPS.values(), ids=STOPS.keys())
def test_a_stop_text_ends_the_answer_before_it(bare_folder, stops, said, passed, met):
    model = scripted(bare_folder, said, said)
    for events in (
        model.complete("?", Sampling(stop=tuple(stops))),
        model.reply(ASK, (), Sampling(stop=tuple(stops))),
    ):
        answer = Reply.from_events(events)
        assert answer.text == passed
        assert (answer.finish_reason, answer.stop_text) == ("stop", met)
        assert answer.usage.prompt_tokens > 0
        assert len(passed) <= answer.usage.completion_tokens <= len(said)


def test_one_call_is_the_last(bare_folder):
    model = scripted(bare_folder, "clock\n{}\nclock\n{}")
    said = reply(model, Constraint(one_call=True))
    assert [call.name for call in said.tool_calls] == ["clock"]


def test_an_answer_or_a_call(bare_folder, model):
    schema = JsonSchema.from_schema(
        {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
    )
    either = replace(Constraint.for_tools([WEATHER, CLOCK]), answer=schema, may_call=("get_weather", "clock"))
    said = reply(model, either)
    assert said.tool_calls or type(json.loads(said.text)["open"]) is bool
    called = reply(scripted(bare_folder, "clock\n", "{}", ""), either)
    assert [call.name for call in called.tool_calls] == ["clock"]
    fake = scripted(bare_folder, "\n", '{"open": true}')
    assert reply(fake, either).text == '{"open": true}'
    assert [type(request.grammar) for request in fake.backend.requests] == [Choice, JsonSchema]
