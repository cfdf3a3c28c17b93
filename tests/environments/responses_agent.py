"""Microsoft's agent-framework: a session of several turns, and a loop of calls, at once and streamed."""

import asyncio
import os

from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient


def get_weather(city: str) -> str:
    """The weather in a city."""
    return "sunny, 21"


async def main() -> None:
    client = OpenAIChatClient(model="checkpoint", base_url=f"{os.environ['EDGE_URL']}/v1", api_key="none")
    agent = Agent(client=client, instructions="Be brief.", tools=[get_weather])
    session = agent.create_session()
    assert (await agent.run("I am Ada.", session=session)).text == "Hello."
    assert (await agent.run("What is my name?", session=session)).text == "Your name is Ada."
    streamed = agent.run("What is my name?", session=session, stream=True)
    assert (await streamed.get_final_response()).text == "Your name is Ada."
    assert (await agent.run("The weather?", session=session)).text == "It is sunny."


asyncio.run(main())
print("agent-framework: turns of a session, streamed, a loop of calls")
