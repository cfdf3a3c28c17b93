"""OpenAI's agents SDK, with its Responses model (the default) or, with the argument "chat", its chat model."""

from typing import Literal

import agents
from features import BASE, MODEL, REST, WEATHER, WHO, expect, expect_self, expect_weather, run
from features import get_weather as weather
from openai import AsyncOpenAI
from pydantic import BaseModel

agents.set_tracing_disabled(True)
Model = agents.OpenAIChatCompletionsModel if REST == ["chat"] else agents.OpenAIResponsesModel


class Shop(BaseModel):
    open: bool
    room: Literal["bar", "hall"]


def agent(**more):
    client = AsyncOpenAI(base_url=f"{BASE}/v1", api_key="none", max_retries=0)
    return agents.Agent(name="Kiosk", model=Model(model=MODEL, openai_client=client), **more)


async def chat():
    expect_self((await agents.Runner.run(agent(), WHO)).final_output)


async def stream():
    streamed = agents.Runner.run_streamed(agent(), WHO)
    events = [event async for event in streamed.stream_events() if event.type == "raw_response_event"]
    expect(len(events) > 5)
    expect_self(streamed.final_output)


async def tools():
    settings = agents.ModelSettings(tool_choice="required", parallel_tool_calls=False)  # of the first turn
    kiosk = agent(tools=[agents.function_tool(weather)], model_settings=settings)
    done = await agents.Runner.run(kiosk, WEATHER, max_turns=4)
    expect_weather(done.final_output)


async def schema():
    settings = agents.ModelSettings(max_tokens=300)
    done = await agents.Runner.run(agent(output_type=Shop, model_settings=settings), "Is the shop open?")
    expect(type(done.final_output.open) is bool, done.final_output)


async def second_turn():
    kiosk = agent()
    first = await agents.Runner.run(kiosk, WHO)
    asked = [*first.to_input_list(), {"role": "user", "content": "Thank you"}]
    expect((await agents.Runner.run(kiosk, asked)).final_output)
    if not REST:
        second = await agents.Runner.run(kiosk, "Thank you", previous_response_id=first.last_response_id)
        expect(second.final_output)


run(chat=chat, stream=stream, tools=tools, schema=schema, second_turn=second_turn)
