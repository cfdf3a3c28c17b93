"""pydantic-ai, with its chat model or, with the argument "responses", its Responses model."""

from typing import Literal

from features import BASE, MODEL, REST, WEATHER, WHO, expect, expect_self, expect_weather, run
from features import get_weather as weather
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

Model = OpenAIResponsesModel if REST == ["responses"] else OpenAIChatModel


class Shop(BaseModel):
    open: bool
    room: Literal["bar", "hall"]


def agent(**more):
    return Agent(Model(MODEL, provider=OpenAIProvider(base_url=f"{BASE}/v1", api_key="none")), **more)


async def chat():
    expect_self((await agent().run(WHO)).output)


async def stream():
    async with agent().run_stream(WHO) as streamed:
        pieces = [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]
    expect(len(pieces) > 5)
    expect_self("".join(pieces))


async def tools():
    expect_weather((await agent(tools=[weather]).run(WEATHER)).output)


async def schema():
    for form in (Shop, NativeOutput(Shop)):  # by a tool, and by the reply's format
        done = await agent(output_type=form).run("Is the shop open?", model_settings={"max_tokens": 300})
        expect(type(done.output.open) is bool, done.output)


async def second_turn():
    kiosk = agent()
    first = await kiosk.run(WHO)
    expect((await kiosk.run("Thank you", message_history=first.all_messages())).output)


run(chat=chat, stream=stream, tools=tools, schema=schema, second_turn=second_turn)
