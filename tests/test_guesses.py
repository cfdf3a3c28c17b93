"""What a developer types first who knows other libraries: each line was written from their documentation, before ours.

| guess | after |
|---|---|
| `convert(checkpoint, folder, recipe)` | mlx_lm.convert(hf_path, mlx_path, quantize=True) |
| `models()`, `devices()`, `inspect(folder)` | ollama.list(), ollama.show(name), openvino.Core().available_devices |
| dicts with role and content | openai: chat.completions.create(messages=[…]), ollama.chat, transformers.pipeline |
| `temperature=0.2, max_tokens=20` by call | openai, llama_cpp.Llama.create_chat_completion |
| tools: functions, or definitions | ollama.chat(tools=[function]), openai tools=[{"type": "function", …}] |
| the loop of a client that runs its tools itself | openai's guide to function calling |
| an answer as a pydantic model or a schema | openai text_format=Model, ollama format=Model.model_json_schema() |
| `await chat.send`, `async for` over a stream | openai.AsyncOpenAI, ollama.AsyncClient |
| the history as a list that one trims | every chat example: messages = messages[-10:] |
| a function that approves calls; errors by name | openai-agents needs_approval, openai.APIError |
"""

import asyncio
import json
import shutil
from threading import Thread

import pytest
from pydantic import BaseModel

import edge
from edge.testing import Echo, echo_model

CALL = 'get_weather\n{"city": "Berlin"}'
DEFINITION = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"It rains in {city}."


def scripted(*replies: str) -> edge.Model:
    return echo_model(Echo(replies))


def requests(model: edge.Model) -> list:
    return model.backend.requests  # type: ignore[attr-defined]


@pytest.mark.slow
def test_convert(tmp_path):
    from edge.demo import CHECKPOINT

    steps: list[edge.Progress] = []
    folder = edge.convert(CHECKPOINT, tmp_path / "glm4-int4", recipe="int4", progress=steps.append)
    assert folder.path == tmp_path / "glm4-int4"
    assert steps[0].name == "check"
    assert steps[-1].result == folder
    assert edge.inspect(tmp_path / "glm4-int4").recipe == "int4"
    with edge.Chat(folder) as chat:
        assert chat.send("Who are you?").text


def test_convert_is_cancelled_from_another_thread(tmp_path):
    from edge.demo import CHECKPOINT

    cancellation = edge.Cancellation()

    def cancel_at_weights(step: edge.Progress) -> None:
        if step.name == "compress":
            Thread(target=cancellation.cancel).start()

    with pytest.raises(edge.ConversionCancelled):
        edge.convert(CHECKPOINT, tmp_path / "out", progress=cancel_at_weights, cancellation=cancellation)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError):
        edge.convert(CHECKPOINT, tmp_path / "out", progress=lambda step: 1 / 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("./nowhere", "out"), edge.CheckpointError),
        (("./nowhere", "."), edge.ConversionError),  # it exists
        (("./nowhere", "out", "int3"), edge.ConversionError),
        ((None, "out"), edge.RequestError),
    ],
)
def test_convert_raises_what_the_command_prints(arguments, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        edge.convert(*arguments)
    assert caught.value.hint


def test_models_devices_inspect(demo_folder):
    assert "GLM-4-9B-0414" in [model.name for model in edge.models()]
    assert "CPU" in [device.name for device in edge.devices()]
    found = edge.inspect(demo_folder.path)
    assert (found.recipe, found.context_length) == ("int4", demo_folder.manifest.context_length)
    assert found.size > 1e6


def test_dicts_are_messages():
    model = scripted("\nHello.", "\nAgain.")
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    reply = edge.Reply.from_events(model.reply(messages))
    assert str(reply) == "Hello."
    messages.append(reply.to_message().to_json())
    chat = edge.Chat(model, history=messages)
    chat.send({"role": "user", "content": [{"type": "text", "text": "Once more"}]})
    assert [message.role for message in chat.history] == ["system", "user", "assistant", "user", "assistant"]
    assert chat.history[-2].content == "Once more"
    assert model.count_tokens("Hi") < model.count_tokens([{"role": "user", "content": "Hi there"}])


class Choice(BaseModel):
    """As openai's ChatCompletionMessage and ollama's Message are: pydantic objects, appended to lists of dicts."""

    role: str
    content: str
    refusal: str | None = None


def test_the_messages_of_other_libraries():
    message = Choice(role="assistant", content="Hello.")
    chat = edge.Chat(scripted("\nYes."), history=[{"role": "user", "content": "Hi"}, message])
    assert chat.history[1] == edge.Message("assistant", "Hello.")


def test_settings_by_call_keep_the_checkpoint_s_own(demo_folder):
    own = edge.Sampling(temperature=0.9, top_p=0.7, top_k=40)
    model = scripted(*["\nHello."] * 5)
    model.sampling = own
    chat = edge.Chat(model, seed=7)
    chat.send("Hi", temperature=0.2, max_tokens=5)
    chat.send("Hi", sampling=edge.Sampling(temperature=0.5), stop="lo")
    list(model.reply("Hi", top_p=0.1))
    first, second, third = (request.sampling for request in requests(model))
    assert (first.temperature, first.top_p, first.top_k, first.seed, first.max_new_tokens) == (0.2, 0.7, 40, 7, 5)
    assert (second.temperature, second.top_p, second.top_k, second.stop) == (0.5, 0.7, 40, ("lo",))
    assert (third.temperature, third.top_p, third.seed) == (0.9, 0.1, None)
    with pytest.raises(edge.RequestError) as caught:
        chat.send("Hi", temprature=0.2)
    assert "did you mean temperature?" in caught.value.hint


@pytest.mark.parametrize(
    "tool",
    [
        get_weather,
        edge.Tool.from_function(get_weather),
        DEFINITION,
        {"type": "function", **DEFINITION["function"]},
        {"name": "get_weather", "description": "…", "input_schema": DEFINITION["function"]["parameters"]},
    ],
    ids=["function", "Tool", "OpenAI", "Responses", "Anthropic"],
)
def test_tools_in_every_form(tool):
    model = scripted(CALL)
    reply = edge.Reply.from_events(model.reply("The weather?", tools=[tool]))
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("get_weather", '{"city": "Berlin"}')]
    assert "get_weather" in "".join(requests(model)[0].prompt)


def test_a_loop_of_the_application_s_own():
    model = scripted(CALL, "\nTake an umbrella.")
    messages = [{"role": "user", "content": "The weather in Berlin?"}]
    reply = edge.Reply.from_events(model.reply(messages, tools=[DEFINITION]))
    messages.append(reply.to_message())
    for call in reply.tool_calls:
        result = get_weather(**json.loads(call.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    reply = edge.Reply.from_events(model.reply(messages, tools=[DEFINITION]))
    assert (reply.text, "It rains in Berlin." in "".join(requests(model)[-1].prompt)) == ("Take an umbrella.", True)


def test_a_chat_waits_for_the_results_of_the_application_s_tools():
    chat = edge.Chat(scripted(CALL, "\nTake an umbrella."), tools=[DEFINITION])
    reply = chat.send("The weather in Berlin?")
    assert (reply.finish_reason, reply.tool_results) == ("stop", ())
    (call,) = reply.tool_calls
    with pytest.raises(edge.RequestError, match="waits for the results of get_weather"):
        chat.send("Well?")
    reply = chat.send({"role": "tool", "tool_call_id": call.id, "content": "Rain."})
    assert reply.text == "Take an umbrella."
    assert [message.role for message in chat.history] == ["user", "assistant", "tool", "assistant"]


class Country(BaseModel):
    name: str
    capital: str


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        Country,
        Country.model_json_schema(),
        {"type": "json_schema", "json_schema": {"name": "country", "schema": Country.model_json_schema()}},
    ],
    ids=["pydantic", "schema", "response_format"],
)
def test_an_answer_as_a_schema(demo_folder, answer):
    with edge.Chat(demo_folder) as chat:
        reply = chat.send("Tell me about a country.", answer=answer, max_tokens=400)
    assert reply.finish_reason in ("stop", "length")
    if reply.finish_reason == "stop":
        Country.model_validate_json(reply.text)
    assert reply.text.startswith("{")


def test_an_answer_of_a_list(demo_folder):
    with edge.Chat(demo_folder) as chat:
        assert chat.send("Is it raining?", answer=["yes", "no"]).text in ("yes", "no")


def test_asyncio(demo_folder):
    async def main() -> tuple[str, str]:
        async with edge.AsyncChat(demo_folder, system="Be brief.") as chat:
            reply = await chat.send("Who are you?", temperature=0)
            text = ""
            async for event in chat.stream("And what can you do?"):
                if isinstance(event, edge.Text):
                    text += event.text
            assert chat.history[-1].content == text
            return reply.text, text

    assert all(asyncio.run(main()))


def test_a_history_that_one_trims():
    chat = edge.Chat(scripted(*"abcdef"), system="Be brief.")
    for text in "123":
        chat.send(text)
    chat.history = chat.history[-2:]
    assert [message.content for message in chat.history] == ["Be brief.", "3", "c"]
    chat.history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    assert [message.content for message in chat.history] == ["Be brief.", "Hi", "Hello."]
    chat.history = [{"role": "system", "content": "Be kind."}]
    assert chat.history == (edge.Message("system", "Be kind."),)
    chat.reset()
    assert chat.history == (edge.Message("system", "Be brief."),)


def test_a_function_that_approves():
    asked = []

    def approve(call: edge.ToolCall) -> bool:
        asked.append(call.name)
        return len(asked) > 1

    chat = edge.Chat(scripted(CALL, CALL, "\nRain."), tools=[get_weather], approve=approve)
    reply = chat.send("The weather in Berlin?")
    assert asked == ["get_weather"] * 2
    assert [result.error for result in reply.tool_results] == [True, False]
    assert "declined" in reply.tool_results[0].content
    chat = edge.Chat(scripted(CALL, "\nRain."), tools=[get_weather], approve=lambda call: None)
    with pytest.raises(edge.RequestError, match="approve returned NoneType"):
        chat.send("The weather in Berlin?")


def test_errors_by_name(tmp_path):
    with pytest.raises(edge.PromptTooLong) as caught:
        edge.Chat(echo_model(Echo(max_prompt_tokens=3))).send("Hi")
    assert caught.value.limit == 3
    with pytest.raises(edge.ModelFolderError):
        edge.Chat(tmp_path / "nowhere")
    assert issubclass(edge.Notice, UserWarning)
    shutil.rmtree(tmp_path)
