"""smolagents' OpenAIModel, and its agent that calls tools."""

import json

import smolagents
from features import BASE, MODEL, SCHEMA, WEATHER, WHO, expect, expect_self, expect_shop, expect_weather, run
from features import get_weather as weather

model = smolagents.OpenAIModel(MODEL, api_base=f"{BASE}/v1", api_key="none")


def user(text):
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def stream():
    deltas = list(model.generate_stream([user(WHO)]))
    expect(len(deltas) > 5)
    expect_self("".join(delta.content or "" for delta in deltas))


@smolagents.tool
def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: The name of the city.
    """
    return weather(city)


def tools():
    called = model.generate([user(WEATHER)], tools_to_call_from=[get_weather], tool_choice="auto")
    (call,) = called.tool_calls
    arguments = call.function.arguments
    result = get_weather(**(json.loads(arguments) if isinstance(arguments, str) else arguments))
    answer = model.generate(
        [user(WEATHER), called, {"role": "tool-response", "content": [{"type": "text", "text": result}]}]
    )
    expect_weather(answer.content)


def schema():
    form = {"type": "json_schema", "json_schema": {"name": "shop", "strict": True, "schema": SCHEMA}}
    expect_shop(json.loads(model.generate([user("Is the shop open?")], response_format=form).content))


def second_turn():
    first = model.generate([user(WHO)])
    expect(model.generate([user(WHO), first, user("Thank you")]).content)


run(
    chat=lambda: expect_self(model.generate([user(WHO)]).content),
    stream=stream,
    tools=tools,
    schema=schema,
    second_turn=second_turn,
)
