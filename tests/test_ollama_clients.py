"""Ollama's clients for Python and Node, LangChain's and LlamaIndex's, in the environment of
tests/environments/ollama.sh."""

import asyncio
import gc
import json
import os
import subprocess
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from runtime.folder.model_folder import write_manifest

from .serving import scripted, serving_ours

pytestmark = [
    pytest.mark.ollama,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # the clients leave sockets open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(find_spec("ollama") is None, reason="not in this environment"),
]
ASK = [{"role": "user", "content": "Who are you?"}]
CALL = 'get_weather\n{"city": "Oslo"}'
SCRIPT = ["I am GLM.", "I am GLM.", CALL, "It is sunny.", "Hello."]
SHOP = {"title": "Shop", "type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}


def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: The city's name
    """
    return f"Sunny in {city}"


@pytest.fixture(autouse=True)
def _collecting():
    """Collect the clients' sockets while their warnings are ignored, which they are not after the last test."""
    yield
    gc.collect()


@pytest.fixture
def acting(bare_folder):
    """The URL of a server whose engine follows the script."""
    with scripted(bare_folder, SCRIPT) as (url, *_):
        yield url


@pytest.fixture(scope="module")
def url(demo_folder):
    with serving_ours(demo_folder.path) as (url, _):
        yield url


def test_python(acting):
    from ollama import Client, ResponseError

    client = Client(host=acting)
    assert client.chat("bare", ASK).message.content == "I am GLM."
    streamed = list(client.chat("bare", ASK, stream=True))
    assert "".join(part.message.content for part in streamed) == "I am GLM."
    assert (streamed[-1].done, streamed[-1].done_reason, streamed[-1].eval_count) == (True, "stop", 9)
    called = client.chat("bare", ASK, tools=[get_weather]).message
    (call,) = called.tool_calls
    result = {"role": "tool", "tool_name": call.function.name, "content": get_weather(**call.function.arguments)}
    assert result["content"] == "Sunny in Oslo"
    assert client.chat("bare", [*ASK, called, result], tools=[get_weather]).message.content == "It is sunny."
    assert client.generate("bare", "Hi", system="Be brief.", options={"temperature": 0}).response == "Hello."
    assert [model.model for model in client.list().models] == ["bare:latest"]
    assert [model.model for model in client.ps().models] == ["bare:latest"]
    shown = client.show("bare")
    assert (shown.capabilities, shown.modelinfo["glm4.context_length"]) == (["completion", "tools"], 4096)
    assert client.pull("bare").status == "success"
    for request in (client.show, client.chat, client.pull, lambda name: next(client.chat(name, ASK, stream=True))):
        with pytest.raises(ResponseError, match="not found") as raised:
            request("absent")
        assert raised.value.status_code == 404


def test_python_thinks(bare_folder):
    from ollama import Client

    thinking = write_manifest(bare_folder.path, replace(bare_folder.manifest, family="z1"))
    with scripted(thinking, ["<think>So.</think>\nYes."] * 2) as (url, *_):
        thought = Client(host=url).chat("bare", ASK, think=True).message
        assert (thought.thinking, thought.content.strip()) == ("So.", "Yes.")
        assert Client(host=url).chat("bare", ASK, think=False).message.thinking is None


def test_python_async_and_schemas(url):
    from ollama import AsyncClient

    async def ask():
        client = AsyncClient(host=url)
        whole = await client.chat("model", ASK)
        streamed = [part.message.content async for part in await client.chat("model", ASK, stream=True)]
        shop = await client.chat("model", ASK, format=SHOP)
        raw = await client.generate("model", "[gMASK]<sop><|user|>\nWho are you?<|assistant|>", raw=True)
        return whole.message.content, "".join(streamed), json.loads(shop.message.content), raw.response.strip()

    whole, streamed, shop, raw = asyncio.run(ask())
    assert whole == streamed == raw != ""
    assert type(shop["open"]) is bool


def test_node(acting):
    if "NODE_PATH" not in os.environ:
        pytest.skip("NODE_PATH names no folder with the package ollama")
    script = Path(__file__).with_name("ollama_client.mjs")
    done = subprocess.run(["node", script, acting, "bare"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    status, message = found.pop("error")
    assert (status, message.startswith("model 'absent' not found")) == (404, True)
    assert found.pop("version")
    assert found == {
        "whole": "I am GLM.",
        "streamed": "I am GLM.",
        "done": "stop",
        "arguments": {"city": "Oslo"},
        "answer": "It is sunny.",
        "generated": "Hello.",
        "listed": ["bare:latest"],
        "loaded": ["bare:latest"],
        "capabilities": ["completion", "tools"],
    }


def test_langchain(acting, url):
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_ollama import ChatOllama

    model = ChatOllama(base_url=acting, model="bare", validate_model_on_init=True, temperature=0, num_ctx=2048)
    assert model.invoke("Who are you?").content == "I am GLM."
    assert "".join(chunk.content for chunk in model.stream("Who are you?")) == "I am GLM."
    asked = [HumanMessage("What is the weather in Oslo?")]
    called = model.bind_tools([tool(get_weather)]).invoke(asked)
    (call,) = called.tool_calls
    asked += [called, ToolMessage(tool(get_weather).invoke(call["args"]), tool_call_id=call["id"])]
    answer = model.invoke(asked)
    assert answer.content == "It is sunny."
    assert answer.usage_metadata["output_tokens"] == len("It is sunny.")
    real = ChatOllama(base_url=url, model="model", temperature=0)
    assert type(real.with_structured_output(SHOP, method="json_schema").invoke("Is it open?")["open"]) is bool


def test_llamaindex(acting):
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.ollama import Ollama

    model = Ollama(base_url=acting, model="bare", request_timeout=60.0)
    assert model.metadata.context_window == 4096
    asked = [ChatMessage(role="user", content="Who are you?")]
    assert model.chat(asked).message.content == "I am GLM."
    assert list(model.stream_chat(asked))[-1].message.content == "I am GLM."
    called = model.chat_with_tools([FunctionTool.from_defaults(get_weather)], user_msg="What is the weather in Oslo?")
    (call,) = model.get_tool_calls_from_response(called)
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Oslo"})
