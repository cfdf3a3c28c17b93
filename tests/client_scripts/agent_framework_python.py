"""Microsoft's agent-framework, with its Responses client (the default) or, with the argument "chat", for chat."""

from typing import Literal

from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient
from features import BASE, MODEL, REST, WEATHER, WHO, expect, expect_self, expect_weather, run
from features import get_weather as weather
from pydantic import BaseModel

Client = OpenAIChatCompletionClient if REST == ["chat"] else OpenAIChatClient


class Shop(BaseModel):
    open: bool
    room: Literal["bar", "hall"]


def agent(**more):
    return Agent(Client(model=MODEL, base_url=f"{BASE}/v1", api_key="none"), **more)


async def chat():
    expect_self((await agent().run(WHO)).text)


async def stream():
    updates = [update.text async for update in agent().run(WHO, stream=True)]
    expect(len(updates) > 5)
    expect_self("".join(updates))


async def tools():
    options = {"tool_choice": "required", "allow_multiple_tool_calls": False}  # of the first turn
    expect_weather((await agent(tools=[weather]).run(WEATHER, options=options)).text)


async def schema():
    done = await agent().run("Is the shop open?", options={"response_format": Shop, "max_tokens": 300})
    expect(type(done.value.open) is bool, done.text)


async def second_turn():
    kiosk = agent(instructions="Answer briefly.")
    session = kiosk.create_session()
    await kiosk.run(WHO, session=session)
    expect((await kiosk.run("Thank you", session=session)).text)


run(chat=chat, stream=stream, tools=tools, schema=schema, second_turn=second_turn)
