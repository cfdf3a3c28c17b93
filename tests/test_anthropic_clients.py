"""Anthropic's own clients, Python's and Node's, in the environment of tests/environments/anthropic.sh."""

import asyncio
import shutil
import subprocess
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic import BaseModel

from runtime.folder.model_folder import write_manifest

from .serving import scripted, serving_ours

pytestmark = [
    pytest.mark.anthropic,
    pytest.mark.skipif(find_spec("anthropic") is None, reason="not in this environment"),
]

ASK = [{"role": "user", "content": "Who are you?"}]
OSLO = [{"role": "user", "content": "What is the weather in Oslo?"}]
NODE = Path(__file__).parent / "environments" / "anthropic.cjs"


def input_tokens(message):
    usage = message.usage
    return usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens


def plain(message):
    """The content as it was sent: a stream's blocks are of other classes."""
    return [block.to_dict(exclude_unset=True, exclude_none=True) for block in message.content]


class Shop(BaseModel):
    open: bool


@pytest.fixture(scope="module")
def place(demo_folder):
    with serving_ours(demo_folder.path, api_key="secret") as (url, _):
        yield {"base_url": url, "api_key": "secret", "max_retries": 0}, demo_folder.path.name


@pytest.fixture(scope="module")
def client(place):
    import anthropic

    with anthropic.Anthropic(**place[0]) as client:
        yield client


@pytest.fixture(scope="module")
def name(place):
    return place[1]


def test_chat_at_once_streamed_and_async(place, client, name):
    import anthropic

    asked = {"model": name, "max_tokens": 60, "messages": ASK}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        final = stream.get_final_message()
    assert (plain(final), final.stop_reason) == (plain(whole), whole.stop_reason)
    assert input_tokens(final) == input_tokens(whole)
    assert client.messages.count_tokens(model=name, messages=ASK).input_tokens == input_tokens(whole)

    async def ask():
        async with anthropic.AsyncAnthropic(**place[0]) as further:
            return await further.messages.create(**asked)

    assert asyncio.run(ask()).content == whole.content
    turn = [*ASK, {"role": "assistant", "content": whole.content}, {"role": "user", "content": "What can you do?"}]
    assert client.messages.create(**asked | {"messages": turn}).content[0].text


def test_its_tool_runner_ends_in_an_answer(client, name):
    import anthropic

    asked = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: The city
        """
        asked.append(city)
        return f"Sunny in {city}"

    for stream in (False, True):
        runner = client.beta.messages.tool_runner(
            model=name, max_tokens=80, tools=[get_weather], messages=OSLO, max_iterations=4, stream=stream
        )
        final = runner.until_done()
        assert final.stop_reason == "end_turn"
        assert final.content[0].type == "text"
    assert asked == ["Oslo", "Oslo"]


def test_parse(client, name):
    parsed = client.messages.parse(model=name, max_tokens=60, messages=ASK, output_format=Shop)
    assert isinstance(parsed.parsed_output, Shop)
    with client.messages.stream(model=name, max_tokens=60, messages=ASK, output_format=Shop) as stream:
        assert isinstance(stream.get_final_message().parsed_output, Shop)


def test_thinking(bare_folder):
    import anthropic

    thinking = write_manifest(bare_folder.path, replace(bare_folder.manifest, family="z1"))
    with (
        scripted(thinking, ["<think>So.</think>\nYes."] * 3) as (url, *_),
        anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
    ):
        asked = {"model": thinking.path.name, "max_tokens": 2048, "messages": ASK}
        asked |= {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        whole = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            final = stream.get_final_message()
        turn = [*ASK, {"role": "assistant", "content": whole.content}, *ASK]
        assert client.messages.create(**asked | {"messages": turn}).content == whole.content
    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert (whole.content[0].thinking, whole.content[1].text.strip()) == ("So.", "Yes.")
    assert plain(final) == plain(whole)


def test_errors_and_models(place, client, name):
    import anthropic

    with pytest.raises(anthropic.NotFoundError, match="no model 'claude'") as missing:
        client.messages.create(model="claude", max_tokens=1, messages=ASK)
    assert missing.value.type == "not_found_error"
    assert missing.value.request_id
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
    with pytest.raises(anthropic.BadRequestError, match="picture"):
        client.messages.create(model=name, max_tokens=1, messages=[{"role": "user", "content": [image]}])
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long: "):
        client.messages.create(model=name, max_tokens=1, messages=[{"role": "user", "content": "word " * 9000}])
    with (
        anthropic.Anthropic(**place[0] | {"api_key": "wrong"}) as stranger,
        pytest.raises(anthropic.AuthenticationError) as unknown,
    ):
        stranger.messages.create(model=name, max_tokens=1, messages=ASK)
    assert unknown.value.type == "authentication_error"
    assert [model.id for model in client.models.list()] == [name]
    assert client.models.retrieve(name).display_name == name


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not here")
def test_its_client_for_node(place, name):
    settings, _ = place
    command = ["node", str(NODE), settings["base_url"], settings["api_key"], name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["chat", "stream", "tools", "schema", "count", "turn", "errors", "models"]
