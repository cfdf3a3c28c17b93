"""The official `ollama` package."""

import json

import ollama
from features import BASE, MODEL, SCHEMA, WEATHER, WHO, expect, expect_self, expect_shop, expect_weather, run
from features import get_weather as weather

client = ollama.Client(host=BASE)


def user(text):
    return {"role": "user", "content": text}


def ask(*messages, **more):
    return client.chat(model=MODEL, messages=messages, **more)


def stream():
    chunks = list(ask(user(WHO), stream=True))
    expect(len(chunks) > 5 and chunks[-1].done, chunks[-1])
    expect_self("".join(chunk.message.content for chunk in chunks))


def tools():
    called = ask(user(WEATHER), tools=[weather]).message
    (call,) = called.tool_calls
    result = {"role": "tool", "tool_name": "get_weather", "content": weather(**call.function.arguments)}
    expect_weather(ask(user(WEATHER), called, result, tools=[weather]).message.content)


def second_turn():
    first = ask(user(WHO)).message
    expect(ask(user(WHO), first, user("Thank you")).message.content)


run(
    chat=lambda: expect_self(ask(user(WHO)).message.content),
    stream=stream,
    tools=tools,
    schema=lambda: expect_shop(json.loads(ask(user("Is the shop open?"), format=SCHEMA).message.content)),
    second_turn=second_turn,
)
