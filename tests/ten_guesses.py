"""The ten guesses of tests/test_guesses.py as one program, which tests/test_places.py runs in several places.

It runs in a folder with ./GLM-4-9B-0414, a checkpoint. `talk` is awaited by whoever runs the rest.
"""

import json

from pydantic import BaseModel

import edge

folder = edge.convert("./GLM-4-9B-0414", "./glm4-int4", recipe="int4", progress=lambda step: None)
assert "GLM-4-9B-0414" in [model.name for model in edge.models()]
assert "CPU" in [device.name for device in edge.devices()]
assert edge.inspect("./glm4-int4").recipe == "int4"

model = edge.Model("./glm4-int4")
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]
assert edge.Reply.from_events(model.reply(messages)).text


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


asked = []


def approve(call: edge.ToolCall) -> bool:
    """Allow every call, and keep it."""
    asked.append(call)
    return True


chat = edge.Chat(model, tools=[add], approve=approve)
reply = chat.send("What is 1 + 2?", tool_choice="required", temperature=0.2, max_tokens=400)
assert reply.tool_calls
assert [call.name for call in asked] == [call.name for call in reply.tool_calls]

definition = {"type": "function", "function": {"name": "add", "parameters": edge.Tool.from_function(add).parameters}}
reply = edge.Reply.from_events(model.reply("1 + 2?", tools=[definition], tool_choice="required", max_tokens=200))
messages = [{"role": "user", "content": "1 + 2?"}, reply.to_message()]
for call in reply.tool_calls:
    assert isinstance(json.loads(call.arguments), dict)
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "3"})
assert edge.Reply.from_events(model.reply(messages, tools=[definition], max_tokens=200)).finish_reason


class Place(BaseModel):
    """A place."""

    sunny: bool


Place.model_validate_json(chat.send("Is Rome sunny?", answer=Place, max_tokens=100).text)
assert chat.send("Is it raining?", answer=["yes", "no"]).text in ("yes", "no")
chat.history = chat.history[-2:]
assert len(chat.history) == 2
try:
    chat.send("Hi", temperature=9)
except edge.RequestError as exc:
    print(f"{exc}. {exc.hint}")


async def talk() -> str:
    """Reply and stream in an event loop."""
    text = ""
    async with edge.AsyncChat(model) as chat:
        assert str(await chat.send("Who are you?"))
        async for event in chat.stream("What can you do?"):
            if isinstance(event, edge.Text):
                text += event.text
    assert text
    return text
