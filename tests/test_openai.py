"""The official `openai` client against our server: what it parses is what it was made for."""

import asyncio
import json
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

openai = pytest.importorskip("openai")
pytest.importorskip("prometheus_client")

from .serving import serving_ours  # noqa: E402

ASK = [{"role": "user", "content": "Who are you?"}]


class Weather(BaseModel):
    """The weather in a city."""

    city: Literal["Oslo", "Paris"]
    days: int | None


class Shop(BaseModel):
    open: bool
    rooms: Annotated[list[Literal["bar", "hall"]], Field(max_length=2)]  # the weak model would go on


@pytest.fixture(scope="module")
def place(demo_folder):
    with serving_ours(demo_folder.path) as (url, _):
        yield {"base_url": f"{url}/v1", "api_key": "none", "max_retries": 0}, demo_folder.path.name


@pytest.fixture(scope="module")
def client(place):
    with openai.OpenAI(**place[0]) as client:
        yield client


@pytest.fixture(scope="module")
def name(place):
    return place[1]


def test_chat_at_once_and_streamed(client, name):
    whole = client.chat.completions.create(model=name, messages=ASK)
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    with client.chat.completions.stream(model=name, messages=ASK) as events:
        for _ in events:
            pass
        assert events.get_final_completion().choices[0].message.content == whole.choices[0].message.content


def test_async(place):
    async def ask():
        async with openai.AsyncOpenAI(**place[0]) as client:
            first, second = await asyncio.gather(
                *(client.chat.completions.create(model=place[1], messages=ASK) for _ in range(2))
            )
            chunks = await client.chat.completions.create(model=place[1], messages=ASK, stream=True)
            said = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        return {first.choices[0].message.content, second.choices[0].message.content, said}

    assert len(asyncio.run(ask())) == 1


def test_parse(client, name):
    shop = client.chat.completions.parse(model=name, messages=ASK, response_format=Shop, max_tokens=200)
    assert isinstance(shop.choices[0].message.parsed, Shop)
    tool = openai.pydantic_function_tool(Weather)
    called = client.chat.completions.parse(
        model=name, messages=ASK, tools=[tool], tool_choice="required", max_tokens=200
    )
    (call, *_) = called.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)
    assert called.choices[0].finish_reason in ("tool_calls", "length")
    with client.chat.completions.stream(
        model=name, messages=ASK, tools=[tool], tool_choice="required", parallel_tool_calls=False
    ) as events:
        kinds = {event.type for event in events}
        final = events.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    assert isinstance(final.choices[0].message.tool_calls[0].function.parsed_arguments, Weather)


def test_a_loop_of_calls_ends_in_an_answer(client, name):
    """As an agent does it: the calls' results go back until the model answers."""
    messages, choice = list(ASK), "required"
    for _ in range(4):
        reply = client.chat.completions.create(
            model=name,
            messages=messages,
            tools=[openai.pydantic_function_tool(Weather)],
            tool_choice=choice,
            parallel_tool_calls=False,
            max_tokens=200,
        ).choices[0]
        messages.append(reply.message.model_dump(exclude_none=True))
        if not reply.message.tool_calls:
            break
        choice = "none"
        messages += [{"role": "tool", "tool_call_id": c.id, "content": "Sunny"} for c in reply.message.tool_calls]
    assert not reply.message.tool_calls
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]


def test_errors_are_its_own(client, name):
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'") as missing:
        client.chat.completions.create(model="gpt", messages=ASK)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=name, messages=ASK, temperature=9)
    assert wrong.value.param == "temperature"
    assert name in [model.id for model in client.models.list()]
    assert client.models.retrieve(name).id == name


def test_completions(client, name):
    whole = client.completions.create(model=name, prompt="[{1, 2", max_tokens=6)
    chunks = client.completions.create(model=name, prompt="[{1, 2", max_tokens=6, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


@pytest.mark.parametrize("question", ["谢谢", "Who are you?"])
def test_log_probabilities_spell_the_content(client, name, question):
    asked = {"model": name, "messages": [{"role": "user", "content": question}], "logprobs": True}
    whole = client.chat.completions.create(**asked).choices[0]
    tokens = whole.logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == whole.message.content
    assert all(token.logprob <= 0 and token.top_logprobs == [] for token in tokens)
    pieces = [chunk.choices[0].logprobs for chunk in client.chat.completions.create(**asked, stream=True)]
    assert [t.bytes for piece in pieces if piece for t in piece.content] == [token.bytes for token in tokens]
    assert client.chat.completions.create(**asked | {"logprobs": False}).choices[0].logprobs is None


def test_log_probabilities_in_the_other_two(client, name):
    asked = {"model": name, "prompt": "谢谢 [1, 2", "max_tokens": 8, "logprobs": 0}
    whole = client.completions.create(**asked).choices[0]
    assert "".join(whole.logprobs.tokens) == whole.text
    assert [
        whole.text[i:][: len(t)] for i, t in zip(whole.logprobs.text_offset, whole.logprobs.tokens, strict=True)
    ] == (whole.logprobs.tokens)
    chunks = [chunk.choices[0].logprobs for chunk in client.completions.create(**asked, stream=True)]
    assert [i for chunk in chunks if chunk for i in chunk.text_offset] == whole.logprobs.text_offset
    echoed = client.completions.create(**asked | {"logprobs": 2, "echo": True}).choices[0]
    assert "".join(echoed.logprobs.tokens[-8:]) == whole.text
    assert all(len(top) >= 2 for top in echoed.logprobs.top_logprobs)
    asked = {"model": name, "input": "Who are you?", "include": ["message.output_text.logprobs"]}
    (part,) = client.responses.create(**asked).output[0].content
    assert "".join(token.token for token in part.logprobs) == part.text
    with client.responses.stream(**asked) as events:
        told = [token.token for e in events if e.type == "response.output_text.delta" for token in e.logprobs]
    assert told == [token.token for token in part.logprobs]


def test_responses(client, name):
    whole = client.responses.create(model=name, input="Who are you?", instructions="Be brief.")
    assert whole.status == "completed"
    assert whole.output_text
    assert whole.usage.output_tokens > 0
    with client.responses.stream(model=name, input="Who are you?", instructions="Be brief.") as events:
        kinds = [event.type for event in events]
        assert events.get_final_response().output_text == whole.output_text
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert {"response.output_item.added", "response.output_text.delta", "response.output_text.done"} <= set(kinds)
    cut = client.responses.create(model=name, input="Who are you?", max_output_tokens=2)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    parsed = client.responses.parse(model=name, input="Is it open?", text_format=Shop)
    assert isinstance(parsed.output_parsed, Shop)
    with pytest.raises(openai.BadRequestError, match="resp_1' not found"):
        client.responses.create(model=name, input="?", previous_response_id="resp_1")


def test_responses_with_tools(client, name):
    tool = openai.pydantic_function_tool(Weather)["function"] | {"type": "function"}
    asked = {"model": name, "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    said = [{"role": "user", "content": [{"type": "input_text", "text": "Is it sunny in Oslo?"}]}]
    first = client.responses.create(input=said, **asked)
    (call,) = first.output
    assert (call.type, call.name) == ("function_call", "Weather")
    Weather.model_validate(json.loads(call.arguments))
    with client.responses.stream(input=said, **asked) as events:
        pieces = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
        assert events.get_final_response().output[0].arguments == pieces == call.arguments
    said += [call.model_dump(), {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}]
    answer = client.responses.create(model=name, input=said, tools=[tool], tool_choice="none")
    assert answer.output_text
