"""LiteLLM, as a library."""

import json

import litellm
from features import BASE, MODEL, SCHEMA, WEATHER, WHO, expect, expect_self, expect_shop, expect_weather, run
from features import get_weather as weather

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def user(text):
    return {"role": "user", "content": text}


def ask(*messages, **more):
    return litellm.completion(
        model=f"openai/{MODEL}", api_base=f"{BASE}/v1", api_key="none", messages=list(messages), **more
    )


def stream():
    chunks = list(ask(user(WHO), stream=True))
    expect(len(chunks) > 5)
    expect_self("".join(chunk.choices[0].delta.content or "" for chunk in chunks))


def tools():
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]
    called = ask(user(WEATHER), tools=tools).choices[0].message
    (call,) = called.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": weather(**json.loads(call.function.arguments))}
    expect_weather(ask(user(WEATHER), called, result, tools=tools).choices[0].message.content)


def schema():
    form = {"type": "json_schema", "json_schema": {"name": "shop", "strict": True, "schema": SCHEMA}}
    expect_shop(json.loads(ask(user("Is the shop open?"), response_format=form).choices[0].message.content))


def second_turn():
    first = ask(user(WHO)).choices[0].message
    expect(ask(user(WHO), first, user("Thank you")).choices[0].message.content)


run(
    chat=lambda: expect_self(ask(user(WHO)).choices[0].message.content),
    stream=stream,
    tools=tools,
    schema=schema,
    second_turn=second_turn,
)
