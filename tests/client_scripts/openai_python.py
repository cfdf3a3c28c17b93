"""The official `openai` package, with the chat API or, with the argument "responses", with the Responses API."""

import json
from typing import Literal

import openai
from features import BASE, MODEL, REST, SCHEMA, WEATHER, WHO, expect, expect_self, expect_shop, expect_weather, run
from features import get_weather as weather
from pydantic import BaseModel

client = openai.OpenAI(base_url=f"{BASE}/v1", api_key="none", max_retries=0)
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Shop(BaseModel):
    open: bool
    room: Literal["bar", "hall"]


def user(text):
    return {"role": "user", "content": text}


def chat(*messages, **more):
    return client.chat.completions.create(model=MODEL, messages=messages, **more).choices[0].message


def chat_stream():
    chunks = client.chat.completions.create(
        model=MODEL, messages=[user(WHO)], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(chunks)
    expect(len(chunks) > 5 and chunks[-1].usage.completion_tokens > 5, chunks[-1])
    expect_self("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))


def chat_tools():
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]
    called = chat(user(WEATHER), tools=tools)
    (call,) = called.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": weather(**json.loads(call.function.arguments))}
    expect_weather(chat(user(WEATHER), called, result, tools=tools).content)


def chat_schema():
    form = {"type": "json_schema", "json_schema": {"name": "shop", "strict": True, "schema": SCHEMA}}
    expect_shop(json.loads(chat(user("Is the shop open?"), response_format=form).content))
    parsed = client.chat.completions.parse(
        model=MODEL, messages=[user("Is the shop open?")], response_format=Shop, max_tokens=300
    )
    expect(type(parsed.choices[0].message.parsed.open) is bool, parsed)


def chat_second_turn():
    first = chat(user(WHO))
    expect(chat(user(WHO), first, user("Thank you")).content)


def respond(given, **more):
    return client.responses.create(model=MODEL, input=given, **more)


def responses_stream():
    events = list(client.responses.create(model=MODEL, input=WHO, stream=True))
    expect(events[0].type == "response.created" and events[-1].type == "response.completed", events)
    expect_self("".join(event.delta for event in events if event.type == "response.output_text.delta"))


def responses_tools():
    tools = [{"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": False}]
    called = respond(WEATHER, tools=tools)
    (call,) = [item for item in called.output if item.type == "function_call"]
    result = weather(**json.loads(call.arguments))
    output = {"type": "function_call_output", "call_id": call.call_id, "output": result}
    expect_weather(respond([output], tools=tools, previous_response_id=called.id).output_text)


def responses_schema():
    form = {"type": "json_schema", "name": "shop", "strict": True, "schema": SCHEMA}
    expect_shop(json.loads(respond("Is the shop open?", text={"format": form}).output_text))


def responses_second_turn():
    first = respond(WHO)
    second = respond("Thank you", previous_response_id=first.id)
    expect(second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens - 2, second.usage)
    expect(second.output_text, second)


if REST == ["responses"]:
    run(
        chat=lambda: expect_self(respond(WHO).output_text),
        stream=responses_stream,
        tools=responses_tools,
        schema=responses_schema,
        second_turn=responses_second_turn,
    )
else:
    run(
        chat=lambda: expect_self(chat(user(WHO)).content),
        stream=chat_stream,
        tools=chat_tools,
        schema=chat_schema,
        second_turn=chat_second_turn,
    )
