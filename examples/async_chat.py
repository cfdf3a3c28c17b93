"""Several chats in one event loop, on one loaded model: `python examples/async_chat.py ./glm4-int4`."""

import asyncio
import sys

import edge


async def get_weather(city: str) -> str:
    """The weather of a city."""
    await asyncio.sleep(0.1)  # a request to a server, without blocking the others
    return f"It is sunny in {city}."


async def ask(model: edge.Model, text: str) -> str:
    chat = edge.AsyncChat(model, tools=[get_weather], max_tokens=200)
    try:
        return (await asyncio.wait_for(chat.send(text), timeout=300)).text
    except TimeoutError:  # the engine has stopped
        return "no answer within five minutes"


async def main(folder: str) -> None:
    async with edge.AsyncChat(folder) as first:
        questions = ["Who are you?", "How is the weather in Berlin?", "What is 6 times 7?"]
        for question, answer in zip(
            questions, await asyncio.gather(*(ask(first.model, question) for question in questions)), strict=True
        ):
            print(f"> {question}\n{answer}")
        async for event in first.stream("Tell me a story.", max_tokens=100):
            if isinstance(event, edge.Text):
                print(event.text, end="", flush=True)
        print()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "./glm4-int4"))
