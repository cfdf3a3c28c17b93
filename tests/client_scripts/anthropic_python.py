"""The official `anthropic` package."""

import json

import anthropic
from features import BASE, MODEL, SCHEMA, WEATHER, WHO, expect, expect_self, expect_shop, expect_weather, run
from features import get_weather as weather

client = anthropic.Anthropic(base_url=BASE, api_key="none", max_retries=0)
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"name": "get_weather", "description": "The weather in a city", "input_schema": PARAMETERS}


def user(content):
    return {"role": "user", "content": content}


def ask(*messages, **more):
    return client.messages.create(model=MODEL, max_tokens=300, messages=messages, **more)


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


def stream():
    with client.messages.stream(model=MODEL, max_tokens=300, messages=[user(WHO)]) as streamed:
        pieces = list(streamed.text_stream)
        expect(len(pieces) > 5)
        expect_self("".join(pieces))
        expect_self(text(streamed.get_final_message()))


def tools():
    called = ask(user(WEATHER), tools=[TOOL])
    expect(called.stop_reason == "tool_use", called)
    (call,) = [block for block in called.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": weather(**call.input)}
    given = [user(WEATHER), {"role": "assistant", "content": called.content}, user([result])]
    expect_weather(text(ask(*given, tools=[TOOL])))


def schema():
    """By its output format, and by a tool that has to be called."""
    form = {"type": "json_schema", "schema": SCHEMA}
    expect_shop(json.loads(text(ask(user("Is the shop open?"), output_config={"format": form}))))
    shop = {"name": "shop", "input_schema": SCHEMA, "strict": True}
    called = ask(user("Is the shop open?"), tools=[shop], tool_choice={"type": "tool", "name": "shop"})
    expect_shop(next(block.input for block in called.content if block.type == "tool_use"))


def second_turn():
    first = ask(user(WHO))
    expect(text(ask(user(WHO), {"role": "assistant", "content": first.content}, user("Thank you"))))


run(
    chat=lambda: expect_self(text(ask(user(WHO)))),
    stream=stream,
    tools=tools,
    schema=schema,
    second_turn=second_turn,
)
