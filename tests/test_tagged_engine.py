"""Calls in tags on the real engine: whatever the model is like, a required or strict call has valid arguments."""

import json
from dataclasses import replace

import pytest

from runtime.cancellation import Cancellation
from runtime.errors import UnsupportedGrammar
from runtime.grammar.grammar import JsonSchema, TaggedArguments
from runtime.messages import Message
from runtime.model import Model
from runtime.prompt.families.glm4_6v import GLM4_6V
from runtime.reply.calls.syntaxes import arguments_spelling
from runtime.reply.constraint import Constraint, admit
from runtime.reply.reply import Reply
from runtime.sampling import Sampling

WEATHER = {
    "name": "get_weather",
    "description": "Weather in a city",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
            "unit": {"enum": ["C", "F"]},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
        },
        "required": ["city", "days"],
    },
}
CLOCK = {"name": "clock", "description": "The time", "parameters": {"type": "object", "properties": {}}}
FREE = {
    "name": "free",
    "description": "",
    "parameters": {"type": "object", "minProperties": 3},
}  # not supported in tags
ASK = [Message("user", "How is the weather in Paris?")]


@pytest.fixture(scope="module")
def model(demo_folder):
    """The embedded model, as if it called in tags: what it writes under a grammar is what counts."""
    with Model(demo_folder) as loaded:
        family = replace(loaded.family, call_start=GLM4_6V.call_start, call_syntaxes=GLM4_6V.call_syntaxes)
        loaded.__dict__["family"] = family
        yield loaded


def reply(model, constraint, tools=(WEATHER, CLOCK), **sampling):
    settings = Sampling(**{"max_new_tokens": 200} | sampling)
    return Reply.from_events(model.reply(ASK, tools, settings, constraint))


def check(call):
    arguments = json.loads(call.arguments)
    if call.name == "clock":
        assert arguments == {}
        return
    assert {"city", "days"} <= set(arguments) <= {"city", "days", "unit", "tags"}
    assert type(arguments["city"]) is str
    assert len(arguments["city"]) <= 12
    assert arguments["days"] in range(1, 15)
    assert arguments.get("unit", "C") in ("C", "F")
    assert all(isinstance(tag, str) for tag in arguments.get("tags", []))


def test_a_call_by_name(model):
    found = reply(model, Constraint.for_tools([WEATHER, CLOCK], "clock", strict=True), temperature=0.0)
    assert (found.tool_calls[0].name, found.tool_calls[0].arguments, found.text) == ("clock", "{}", "")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_required_calls_are_valid_at_any_temperature(model, seed):
    constraint = replace(Constraint.for_tools([WEATHER, CLOCK], "required", strict=True), one_call=True)
    found = reply(model, constraint, temperature=3.0, seed=seed)
    assert found.tool_calls[0].complete
    check(found.tool_calls[0])


def test_a_schema_that_tags_cannot_enforce(model):
    """It is rejected under `strict`, with the grammar that the caller knows; else any arguments take its place."""
    spelled, settings = arguments_spelling(model.family), Sampling().resolve()
    strict = Constraint.for_tools([FREE], "required", strict=True)
    with pytest.raises(UnsupportedGrammar, match="a number of arguments") as error:
        admit(strict, model.backend, Cancellation(), settings, spelled)
    assert error.value.grammar == strict.arguments["free"]
    lenient = Constraint.for_tools([FREE], "required")
    admitted = admit(lenient, model.backend, Cancellation(), settings, spelled)
    assert not isinstance(admitted.arguments["free"], JsonSchema)
    assert spelled(admitted.arguments["free"]) == TaggedArguments()
