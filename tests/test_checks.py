"""What an application passes by mistake is named: the argument, what it must be, what it was."""

import re

import numpy as np
import pytest

import edge
from runtime.backends.choose import choose
from runtime.backends.echo import Echo

NAN, INF = float("nan"), float("inf")
SAMPLING = [
    {"temperature": NAN},
    {"temperature": "0.5"},
    {"temperature": True},
    {"temperature": -0.1},
    {"top_p": INF},
    {"top_p": -1},
    {"top_k": 1.5},
    {"top_k": "many"},
    {"top_k": -1},
    {"top_k": 10**30},
    {"repetition_penalty": NAN},
    {"repetition_penalty": [1.0]},
    {"presence_penalty": -INF},
    {"frequency_penalty": "high"},
    {"seed": -1},
    {"seed": 2**63},
    {"seed": 1.0},
    {"max_new_tokens": 0},
    {"max_new_tokens": -5},
    {"max_new_tokens": 2.0},
    {"max_new_tokens": True},
    {"stop": ("a", 1)},
    {"stop": ("",)},
    {"logprobs": 5},
]
OPTIONS = [
    {"threads": 0},
    {"threads": -4},
    {"threads": "4"},
    {"threads": 10**30},
    {"context": 0},
    {"context": -5},
    {"context": 1e4},
    {"reply_tokens": 0},
    {"lookup": -1},
    {"lookup": None},
    {"lookup": "on"},
    {"running": 0},
    {"activation_group": -1},
    {"activation_scale": NAN},
    {"activation_scale": 0},
    {"kv_precision": 8},
    {"precision": 16},
    {"cache": "no"},
]


DEEP = {"type": "object"}
for _ in range(2000):
    DEEP = {"type": "object", "properties": {"a": DEEP}}


def refused(name, make, *arguments, **settings):
    """The error, a line and a cure, which has the argument's name."""
    with pytest.raises(edge.EdgeError) as caught:
        make(*arguments, **settings)
    assert re.fullmatch(rf".*\b{name}\b.*", str(caught.value)), str(caught.value)
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize("setting", SAMPLING, ids=str)
def test_a_setting_of_sampling(setting):
    (name,) = setting
    refused(name, edge.Sampling, **setting)
    refused(
        name,
        edge.Sampling().override,
        **{name: value for name, value in setting.items() if value is not None} or {name: ""},
    )


@pytest.mark.parametrize("setting", OPTIONS, ids=str)
def test_an_option(setting):
    refused(*setting, edge.Options, **setting)


@pytest.mark.parametrize("name", ["precision", "kv_precision"])
@pytest.mark.parametrize("in_process", [True, False])
def test_an_unknown_type_is_refused_with_those_there_are(demo_folder, name, in_process):
    with pytest.raises(edge.EdgeError, match="zz") as caught:
        edge.Model(demo_folder, device="CPU", options=edge.Options(**{name: "zz"}), in_process=in_process)
    assert "f16" in caught.value.hint


def test_numbers_of_numpy_are_numbers():
    sampling = edge.Sampling(temperature=np.float32(0.5), top_k=np.int64(3), max_new_tokens=np.int32(9))
    assert (sampling.temperature, sampling.top_k, sampling.max_new_tokens) == (0.5, 3, 9)
    assert edge.Sampling(stop=["a", "b"]).stop == ("a", "b")


ARGUMENTS = [
    {"sampling": {"temperature": 0.5}},
    {"sampling": {}},
    {"sampling": edge.Sampling},
    {"system": None},
    {"system": ["Be brief."]},
    {"max_rounds": 0},
    {"max_rounds": "8"},
    {"strict": "yes"},
    {"history": "Hi"},
    {"history": {"role": "user", "content": "Hi"}},
    {"approve": True},
    {"temperatur": 0.5},
    {"tools": len},
    {"tools": "search"},
    {"tools": {"search": len}},
]


@pytest.mark.parametrize("argument", ARGUMENTS, ids=str)
def test_an_argument_of_chat(bare_folder, argument):
    refused(*argument, edge.Chat, edge.Model(bare_folder, backend=Echo()), **argument)


LOADED = [{"device": None}, {"device": 0}, {"fallback": "CPU"}, {"fallback": [None]}, {"options": {"threads": 2}}]


@pytest.mark.parametrize("argument", LOADED, ids=str)
def test_an_argument_of_a_model(bare_folder, argument):
    for loaded in (edge.Model, edge.Chat):
        refused(*argument, loaded, bare_folder, **argument)
    refused("model folder", edge.Model, None)
    refused("model folder", edge.Model, 3)


ASKED = [
    {"sampling": {"temperature": 1}},
    {"answer": 3},
    {"answer": "yes|no"},
    {"answer": int},
    {"tools": len},
    {"temperatur": 0.5},
    {"temperature": 9},
]


@pytest.mark.parametrize("argument", ASKED, ids=str)
def test_an_argument_of_a_reply(bare_folder, argument):
    chat = edge.Chat(edge.Model(bare_folder, backend=Echo()))
    refused(*argument, chat.send, "Hi", **argument)
    refused("messages", chat.send, b"Hi")
    refused("messages", chat.send, None)
    refused("sampling", lambda: list(chat.model.complete("Hi", {})))
    refused("sampling", lambda: list(chat.model.reply([edge.Message("user", "Hi")], sampling={})))
    assert chat.history == ()


VALUES = [
    ("role", edge.Message, "king"),
    ("role", edge.Message, None),
    ("content", edge.Message, "user", None),
    ("reasoning", edge.Message, "assistant", "", 1),
    ("tool_calls", edge.Message, "assistant", "", "", [{"name": "f"}]),
    ("tool_calls", edge.Message, "assistant", "", "", edge.ToolCall("f", "{}")),
    ("arguments", edge.ToolCall, "f", {"a": 1}),
    ("name", edge.ToolCall, None, "{}"),
    ("content", edge.ToolResult, "call_1", "f", 3),
    ("name", edge.Tool, 1, "", {}, str),
    ("name", edge.Tool, " ", "", {}, str),
    ("description", edge.Tool, "f", None, {}, str),
    ("parameters", edge.Tool, "f", "", [], str),
    ("parameters", edge.Tool, "f", "", DEEP, str),
    ("run", edge.Tool, "f", "", {}, "run"),
    ("expression", edge.Regex, 1),
    ("options", edge.Choice, "yes"),
    ("options", edge.Choice, ("yes", 1)),
    ("schema", edge.JsonSchema, {"type": "object"}),
    ("schema", edge.JsonSchema.from_schema, DEEP),
    ("schema", edge.JsonSchema.from_schema, '{"type": "object"}'),
]


@pytest.mark.parametrize("case", VALUES, ids=lambda case: f"{case[1].__name__} {case[0]}")
def test_a_field_of_a_value(case):
    name, make, *arguments = case
    refused(name, make, *arguments)


def test_the_fake_is_not_offered_and_there_for_who_names_it():
    with pytest.raises(edge.EdgeError) as caught:
        choose("XPU9")
    assert "CPU" in caught.value.hint
    assert "ECHO" not in f"{caught.value} {caught.value.hint}"
    assert choose("echo").device == "ECHO"


def test_a_context_beyond_the_models(bare_folder):
    limit = bare_folder.manifest.context_length
    for device in ("auto", "CPU", "ECHO"):
        assert choose(device, bare_folder, edge.Options(context=limit)).reason
        said = refused("context", choose, device, bare_folder, edge.Options(context=limit + 1))
        assert f"{limit:,}" in said
        refused("context", edge.Model, bare_folder, device=device, options=edge.Options(context=99_999))
