"""A remote model on our own server is the local one: replies, calls, grammars, log-probabilities, errors."""

import time
from dataclasses import replace

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx2")
pytest.importorskip("tokenizers")

import edge
from runtime.grammar.grammar import Choice, Ebnf, JsonObject, JsonSchema, Regex
from runtime.model import Model
from runtime.reply.reply import Reply

from .serving import serving_ours

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
EXACT = edge.Options(precision="f32")  # in bf16, what the prefix cache has changes near-ties
CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}


@pytest.fixture(scope="module")
def served(demo_folder):
    with serving_ours(demo_folder.path, options=EXACT) as (url, dispatcher):
        yield url, dispatcher


@pytest.fixture(scope="module")
def models(demo_folder, served):
    with Model(demo_folder, device="CPU", options=EXACT) as local, Model(demo_folder, device=served[0]) as remote:
        yield local, remote


def said(model, question="Who are you?", **settings):
    reply = Reply.from_events(model.reply(question, **settings))
    usage = (reply.usage.prompt_tokens, reply.usage.completion_tokens)
    calls = tuple(replace(call, id="") for call in reply.tool_calls)
    return replace(reply, usage=None, tool_calls=calls, logprobs=()), usage, reply.logprobs


CASES = {
    "a reply": {},
    "Chinese": {"question": "洗手间在哪里？"},
    "special tokens typed": {"question": "<|user|>[gMASK] Who are you?<|endoftext|>"},
    "a limit": {"max_tokens": 5},
    "a stop text": {"stop": "tiny"},
    "a call": {"question": "What is the weather in Oslo?", "tools": [WEATHER]},
    "a strict call": {"question": "What is the weather in Oslo?", "tools": [WEATHER], "strict": True},
    "a required call": {"tools": [WEATHER], "tool_choice": "required"},
    "a schema": {"answer": JsonSchema.from_schema(CITY)},
    "an object": {"answer": JsonObject(), "max_tokens": 20},
    "a choice": {"answer": Choice(("yes", "no"))},
    "a pattern": {"answer": Regex("[0-9]{3}")},
    "a grammar": {"answer": Ebnf('root ::= "a" [bc]+ "d"'), "max_tokens": 9},
    "log-probabilities": {"logprobs": True, "question": "洗手间在哪里？"},
    "of a constrained reply": {"logprobs": True, "answer": Regex("[a-f]{6}")},
    "most probable tokens": {"top_logprobs": 3},
    "a bias": {"logit_bias": {40: -100}},
    "penalties": {"frequency_penalty": 1.0, "presence_penalty": 0.5, "max_tokens": 40},
    "a repetition penalty": {"repetition_penalty": 1.3, "max_tokens": 40},
    "a seed": {"temperature": 1.5, "seed": 7, "max_tokens": 20},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES.keys())
def test_replies_are_those_of_a_local_model(models, settings):
    (local, usage, tokens), (remote, counts, others) = (said(model, **settings) for model in models)
    assert remote == local
    assert counts[0] == usage[0]
    if not settings.keys() & {"answer", "tools", "stop"}:
        assert counts == usage
    assert [(token.id, token.bytes) for token in others] == [(token.id, token.bytes) for token in tokens]
    for one, other in zip(tokens, others, strict=True):
        assert other.logprob == pytest.approx(one.logprob, abs=2e-3)
        assert [token.id for token in other.top] == [token.id for token in one.top]


def test_token_ids_are_a_prompt(models):
    local, remote = models
    ids = local.backend.encode(local.prompt("Who are you?"))
    (stop,) = local.backend.encode((".",))
    for settings in ({}, {"stop_token_ids": [stop]}, {"ignore_eos": True, "max_tokens": 50}):
        texts = [Reply.from_events(model.complete(ids, **settings)) for model in (local, remote)]
        assert texts[0].text == texts[1].text
        assert texts[0].finish_reason == texts[1].finish_reason


REJECTED = {
    "a grammar": (edge.UnsupportedGrammar, {"answer": Regex("((a{900}){900}){900}")}),
    "a schema": (edge.UnsupportedGrammar, {"answer": JsonSchema.from_schema({"not": {}})}),
    "a setting beside a grammar": (edge.UnsupportedSetting, {"answer": Choice(("a", "b")), "frequency_penalty": 1.0}),
}


@pytest.mark.parametrize(("error", "settings"), REJECTED.values(), ids=REJECTED.keys())
def test_what_is_rejected_here_is_rejected_there(models, error, settings):
    for model in models:
        with pytest.raises(error) as refused:
            said(model, **settings)
        assert refused.value.hint
    with pytest.raises(edge.UnsupportedSetting, match="prompt_logprobs is not supported by http"):
        said(models[1], prompt_logprobs=True)


def test_a_chat_with_tools(models):
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"rain in {city}"

    replies = []
    for model in models:
        chat = edge.Chat(model, tools=[get_weather])
        replies.append([chat.send(text) for text in ("What is the weather in Oslo?", "Who are you?")])
    for one, other in zip(*replies, strict=True):
        assert other.text == one.text
        assert [(call.name, call.arguments) for call in other.tool_calls] == [
            (call.name, call.arguments) for call in one.tool_calls
        ]
        assert [result.content for result in other.tool_results] == [result.content for result in one.tool_results]


def test_a_cancelled_reply_frees_its_turn(models, served):
    entry = next(iter(served[1].pool.entries.values()))
    reply = models[1].complete("1 2 3 ", ignore_eos=True, max_tokens=1500)
    next(reply)
    assert entry.queue.running == 1
    reply.cancel()
    assert Reply.from_events(reply).finish_reason == "cancelled"
    end = time.monotonic() + 20
    while entry.queue.running and time.monotonic() < end:
        time.sleep(0.05)
    assert entry.queue.running == 0
