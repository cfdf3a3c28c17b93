"""What public clients send for "no limit", "off" and "none" is translated before a request is validated."""

import json

import pytest

pytest.importorskip("starlette")
httpx2 = pytest.importorskip("httpx2")

from edge.server.errors import ApiError  # noqa: E402
from edge.server.openai.chat_request import ChatRequest  # noqa: E402
from edge.server.openai.completions import CompletionRequest  # noqa: E402
from edge.server.responses.request import ResponsesRequest  # noqa: E402

from .serving import scripted, serving_ours  # noqa: E402
from .test_server import ASK, CHAT  # noqa: E402

WEATHER = {"name": "weather", "description": "Looks up.", "parameters": {"type": "object", "properties": {}}}
NESTED, FLAT = {"type": "function", "function": WEATHER}, {"type": "function"} | WEATHER

VALUES = {
    "max_tokens -1": ({"max_tokens": -1}, "max_tokens", None),
    "max_tokens -2": ({"max_tokens": -2}, "max_tokens", None),
    "JavaScript's largest integer": ({"max_completion_tokens": 2**53 - 1}, "max_completion_tokens", None),
    "the limit of responses": ({"max_output_tokens": 7}, "max_completion_tokens", 7),
    "the limit of llama.cpp": ({"n_predict": -1}, "max_completion_tokens", None),
    "top_k -1": ({"top_k": -1}, "top_k", 0),
    "top_k 0": ({"top_k": 0}, "top_k", 0),
    "top_p 0": ({"top_p": 0}, "top_p", 0),
    "an empty stop": ({"stop": ""}, "stop", None),
    "a list of an empty stop": ({"stop": [""]}, "stop", None),
    "stops, one of them empty": ({"stop": ["a", "", None]}, "stop", ["a"]),
    "no stops": ({"stop": []}, "stop", None),
    "Anthropic's stops": ({"stop_sequences": ["a"]}, "stop", ["a"]),
    "seed -1": ({"seed": -1}, "seed", None),
    "llama.cpp's random seed": ({"seed": 2**32 - 1}, "seed", None),
    "Mistral's seed": ({"random_seed": 5}, "seed", 5),
    "n null": ({"n": None}, "n", None),
    "logit_bias as an empty list": ({"logit_bias": []}, "logit_bias", None),
    "llama.cpp's penalty": ({"repeat_penalty": 1.5}, "repetition_penalty", 1.5),
    "both penalties": ({"repeat_penalty": 1.5, "repetition_penalty": 1.25}, "repetition_penalty", 1.25),
    "no tools": ({"tools": []}, "tools", None),
    "an empty format": ({"response_format": {}}, "response_format", None),
    "parallel_tool_calls null": ({"parallel_tool_calls": None}, "parallel_tool_calls", None),
    "an empty model": ({"model": ""}, "model", None),
    "Mistral's choice": ({"tool_choice": "any"}, "tool_choice", "required"),
    "Anthropic's choice": ({"tool_choice": {"type": "any"}}, "tool_choice", "required"),
    "the type of a choice": ({"tool_choice": {"type": "auto"}}, "tool_choice", "auto"),
    "thinking off": ({"enable_thinking": False}, "chat_template_kwargs", {"enable_thinking": False}),
    "Ollama's think": ({"think": "low"}, "chat_template_kwargs", {"reasoning_effort": "low"}),
    "Zhipu's thinking": ({"thinking": {"type": "disabled"}}, "chat_template_kwargs", {"enable_thinking": False}),
    "an effort": ({"reasoning_effort": "low"}, "chat_template_kwargs", {"reasoning_effort": "low"}),
    "no effort": (
        {"reasoning": {"effort": "none"}},
        "chat_template_kwargs",
        {"enable_thinking": False, "reasoning_effort": "none"},
    ),
    "the template's own": (
        {"think": True, "chat_template_kwargs": {"enable_thinking": False}},
        "chat_template_kwargs",
        {"enable_thinking": False},
    ),
    "SillyTavern's settings, all off": (
        {"typical_p": 1, "tfs": 1, "top_a": 0, "mirostat_mode": 0, "dry_multiplier": 0, "xtc_probability": 0,
         "min_length": 0, "ban_eos_token": False, "guidance_scale": 1, "banned_tokens": [], "max_tokens": 5},
        "max_tokens",
        5,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "field", "value"), VALUES.values(), ids=VALUES.keys())
def test_values(body, field, value):
    assert getattr(ChatRequest.model_validate(ASK | body), field) == value
    for model, required in ((ResponsesRequest, {"input": "?"}), (CompletionRequest, {"prompt": "?"})):
        if {field, *body} <= set(model.model_fields):
            assert getattr(model.model_validate(required | body), field) == value


def test_the_name_of_the_limit_in_each_api():
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens"):
        assert ResponsesRequest.model_validate({"input": "?", name: 7}).max_output_tokens == 7
        assert CompletionRequest.model_validate({"prompt": "?", name: 7}).max_tokens == 7


@pytest.mark.parametrize(
    "tool", [NESTED, FLAT, WEATHER, {"function": WEATHER}], ids=["chat", "responses", "bare", "no type"]
)
def test_a_tool_in_any_layout(tool):
    choice = {"type": "function", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}
    for chosen in (*choice, {"type": "tool", "name": "weather"}):
        body = {"tools": [tool], "tool_choice": chosen}
        chat = ChatRequest.model_validate(ASK | body)
        assert (chat.tools[0].function.name, chat.tool_choice.function.name) == ("weather", "weather")
        assert chat.tools[0].function.definition == NESTED
        responses = ResponsesRequest.model_validate({"input": "?"} | body)
        assert (responses.tools[0].name, responses.tool_choice.name) == ("weather", "weather")
    anthropic = {"name": "weather", "input_schema": {"type": "object"}}
    found = ChatRequest.model_validate(ASK | {"tools": [anthropic]})
    assert found.tools[0].function.parameters == {"type": "object"}


OFF = {
    "typical_p": 0.5,
    "mirostat": 2,
    "min_tokens": 5,
    "ignore_eos": True,
    "bad_words": ["a"],
    "stop_token_ids": [1],
    "modalities": ["text", "audio"],
    "use_beam_search": True,
}


@pytest.mark.parametrize(("name", "value"), OFF.items(), ids=OFF.keys())
@pytest.mark.parametrize("model", [ChatRequest, CompletionRequest, ResponsesRequest])
def test_settings_that_are_on_are_rejected_by_name(name, value, model):
    body = ASK | {"input": "?", "prompt": "?", name: value}
    if name in model.model_fields:
        assert getattr(model.model_validate(body), name) == value
        return
    with pytest.raises(ApiError, match=name) as caught:
        model.model_validate(body)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, name, "unsupported_parameter")


CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
PARSED = {"id": None, "type": None, "index": 0, "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
CHATS = {
    "a system message in the middle": (
        [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}, {"role": "user", "content": "c"}],
        "<|system|>\nb<|user|>\na<|user|>\nc",
    ),
    "two system messages": (
        [{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, {"role": "user", "content": "c"}],
        "<|system|>\na<|system|>\nb<|user|>\nc",
    ),
    "parts of other APIs": (
        [{"role": "user", "content": [{"type": "input_text", "text": "a"}, "b", {"type": "text", "text": "c"}]},
         {"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}, {"type": "refusal", "refusal": "d"}]},
         {"role": "user", "content": {"type": "text", "text": "e"}}],
        "<|user|>\nabc<|assistant|>\nd<|user|>\ne",
    ),
    "arguments as an object, null ids, and no content": (
        [{"role": "user", "content": "a"},
         {"role": "assistant", "content": None, "tool_calls": [PARSED], "name": None, "reasoning": None},
         {"role": "tool", "tool_call_id": None, "content": {"sky": "clear"}}],
        '<|user|>\na<|assistant|>weather \n{"city": "Oslo"}<|observation|>\n{"sky": "clear"}',
    ),
    "functions of 2023": (
        [{"role": "user", "content": "a"},
         {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": ""}},
         {"role": "function", "name": "weather", "content": "clear"}],
        "<|user|>\na<|assistant|>weather \n{}<|observation|>\nclear",
    ),
    "a result in parts": (
        [{"role": "user", "content": "a"},
         {"role": "assistant", "content": "", "tool_calls": [CALL]},
         {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "clear"}]}],
        '<|user|>\na<|assistant|>weather \n{"city": "Oslo"}<|observation|>\nclear',
    ),
}  # fmt: skip


def test_messages(bare_folder):
    with scripted(bare_folder, ["\nYes."] * len(CHATS)) as (url, _, engine):
        for name, (messages, prompt) in CHATS.items():
            answer = httpx2.post(f"{url}{CHAT}", json={"messages": messages, "max_tokens": -1, "stream_options": None})
            assert answer.status_code == 200, (name, answer.text)
            rendered = "".join(engine.requests[-1].prompt)
            assert rendered.removeprefix("[gMASK]<sop>").removesuffix("<|assistant|>") == prompt, name


def test_chinese_tool_names_work_end_to_end(bare_folder):
    tool = {"name": "查询天气", "parameters": {"type": "object", "properties": {"城市": {"type": "string"}}}}
    reply = '查询天气\n{"城市": "北京"}'
    with scripted(bare_folder, [reply] * 2) as (url, _, engine):
        body = ASK | {"tools": [{"type": "function", "function": tool}]}
        (call,) = httpx2.post(f"{url}{CHAT}", json=body).json()["choices"][0]["message"]["tool_calls"]
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("查询天气", {"城市": "北京"})
        assert "查询天气" in "".join(engine.requests[0].prompt)
        with httpx2.stream("POST", f"{url}{CHAT}", json=body | {"stream": True}) as answer:
            chunks = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
        calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
        assert calls[0]["function"]["name"] == "查询天气"
        assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"城市": "北京"}


@pytest.mark.slow
def test_a_forced_call_of_a_chinese_name_on_the_engine(demo_folder):
    schema = {"type": "object", "properties": {"城市": {"enum": ["北京"]}}, "required": ["城市"]}
    tool = {"type": "function", "function": {"name": "查询天气", "parameters": schema, "strict": True}}
    with serving_ours(demo_folder.path) as (url, _):
        for choice in ("required", {"type": "function", "function": {"name": "查询天气"}}):
            body = ASK | {"tools": [tool], "tool_choice": choice, "temperature": 0}
            message = httpx2.post(f"{url}{CHAT}", json=body, timeout=60).json()["choices"][0]["message"]
            called = [(call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]
            assert set(called) == {("查询天气", '{"城市": "北京"}')}
