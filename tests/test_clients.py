"""Clients that come from neither us nor OpenAI, in the environment of tests/environments/openai.sh."""

import asyncio
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from .serving import serving_ours

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(find_spec("langchain_openai") is None, reason="not in this environment"),
]


@pytest.fixture(scope="module")
def url(demo_folder):
    with serving_ours(demo_folder.path) as (url, _):
        yield url


def test_langchain_calls_tools_and_goes_on(url, demo_folder):
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    @tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"Sunny in {city}"

    model = ChatOpenAI(base_url=f"{url}/v1", api_key="none", model=demo_folder.path.name, max_retries=0, temperature=0)
    asked = [HumanMessage("What is the weather in Oslo?")]
    called = model.bind_tools([get_weather], tool_choice="get_weather", parallel_tool_calls=False).invoke(asked)
    (call,) = called.tool_calls
    assert call["name"] == "get_weather"
    asked += [called, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert model.invoke(asked).content
    assert "".join(chunk.content for chunk in model.stream("Who are you?")) == model.invoke("Who are you?").content
    schema = {"title": "Shop", "type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
    assert type(model.with_structured_output(schema, method="json_schema").invoke("Is it open?")["open"]) is bool


@pytest.mark.parametrize("api", ["OpenAIChatCompletionsModel", "OpenAIResponsesModel"])
def test_openais_agents_run_their_loop(url, demo_folder, api):
    import agents
    from openai import AsyncOpenAI

    agents.set_tracing_disabled(True)
    asked = []

    @agents.function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return f"Sunny in {city}"

    async def run():
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            agent = agents.Agent(
                name="Kiosk",
                instructions="Answer briefly.",
                tools=[get_weather],
                model=getattr(agents, api)(model=demo_folder.path.name, openai_client=client),
                model_settings=agents.ModelSettings(temperature=0, tool_choice="required", parallel_tool_calls=False),
            )
            whole = await agents.Runner.run(agent, "What is the weather in Oslo?", max_turns=4)
            streamed = agents.Runner.run_streamed(agent, "What is the weather in Oslo?", max_turns=4)
            names = [event.name async for event in streamed.stream_events() if event.type == "run_item_stream_event"]
            return whole, streamed, names

    whole, streamed, names = asyncio.run(run())
    assert [item.type for item in whole.new_items] == ["tool_call_item", "tool_call_output_item", "message_output_item"]
    assert asked == ["Oslo", "Oslo"]
    assert whole.final_output == streamed.final_output != ""
    assert names == ["tool_called", "tool_output", "message_output_created"]


def test_schemathesis_finds_no_server_error(url, tmp_path):
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{url}/openapi.json",
        "--seed",
        "1",
        "--max-examples",
        "40",
    ]
    command += [
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]
    command += ["--request-timeout", "120"]  # an answer may fill the context
    done = subprocess.run([*command, "--no-color"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert re.search(r"(\d{3,}) generated, \1 passed", done.stdout), done.stdout[-2000:]
