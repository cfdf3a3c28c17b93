"""Anthropic's API over plain HTTP: what it answers, what it rejects by name, and the events of its stream."""

import json

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.server.anthropic.message_content import MessageParam, to_messages  # noqa: E402
from edge.server.anthropic.message_request import CountTokensRequest  # noqa: E402
from edge.server.anthropic.message_stream import MessageStream  # noqa: E402
from edge.server.errors import ApiError  # noqa: E402
from edge.server.limits import Limits  # noqa: E402
from runtime.events import Finish, Reasoning, Text, ToolCall, ToolCallDelta, Usage  # noqa: E402
from runtime.messages import Message  # noqa: E402

from .serving import scripted, serving_ours  # noqa: E402

PATH = "/v1/messages"
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SHOP = {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}}


def user(content):
    return {"role": "user", "content": content}


ASK = {"max_tokens": 60, "messages": [user("Who are you?")]}
OSLO = {"max_tokens": 80, "messages": [user("What is the weather in Oslo?")], "tools": [WEATHER]}


@pytest.fixture(scope="module")
def client(demo_folder):
    with serving_ours(demo_folder.path) as (url, _), httpx2.Client(base_url=url, timeout=120) as client:
        yield client


def create(client, path=PATH, **body):
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def stream(client, **body):
    """The events of a stream; each has its name as its type, too."""
    with client.stream("POST", PATH, json=body | {"stream": True}) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        text = "".join(reply.iter_text())
    return parse(text)


def parse(text):
    found = []
    for event in text.split("\n\n"):
        if event:
            name, data = event.splitlines()
            found.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {found[-1]['type']}"
    return found


def accumulate(events):
    """The message that a client makes of a stream."""
    message = {}
    pieces = {}
    for event in events:
        match event:
            case {"type": "message_start", "message": message}:
                pass
            case {"type": "content_block_start", "index": index, "content_block": block}:
                assert index == len(message["content"])
                message["content"].append(block)
                pieces[index] = ""
            case {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta"} as delta}:
                pieces[index] += delta["partial_json"]
            case {"type": "content_block_delta", "index": index, "delta": delta}:
                (field,) = delta.keys() - {"type"}
                message["content"][index][field] += delta[field]
            case {"type": "content_block_stop", "index": index}:
                if message["content"][index]["type"] == "tool_use":
                    message["content"][index]["input"] = json.loads(pieces[index])
            case {"type": "message_delta", "delta": delta, "usage": usage}:
                message |= delta | {"usage": usage}
    return message


def test_a_reply_at_once_is_that_of_the_stream(client):
    whole = create(client, **ASK)
    assert [block["type"] for block in whole["content"]] == ["text"]
    assert (whole["type"], whole["role"], whole["stop_reason"]) == ("message", "assistant", "end_turn")
    events = stream(client, **ASK)
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
    assert accumulate(events) | {"id": ""} == whole | {"id": ""}


def test_input_tokens_are_those_that_no_cache_had(client):
    asked = ASK | {"messages": [{"role": "user", "content": "Who are you? " * 50}]}
    counted = create(client, f"{PATH}/count_tokens", messages=asked["messages"])["input_tokens"]
    first, second = (create(client, **asked)["usage"] for _ in range(2))
    assert first["input_tokens"] + first["cache_read_input_tokens"] == counted
    assert second["cache_read_input_tokens"] > first["cache_read_input_tokens"]
    assert second["input_tokens"] + second["cache_read_input_tokens"] == counted


@pytest.mark.parametrize(
    ("body", "reason", "sequence"),
    [
        ({"max_tokens": 2}, "max_tokens", None),
        ({"stop_sequences": ["never", " tiny"]}, "stop_sequence", " tiny"),
        ({"stop_sequences": ["never"]}, "end_turn", None),
    ],
)
def test_the_reason_why_a_reply_ends(client, body, reason, sequence):
    whole = create(client, **ASK | body)
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, sequence)
    assert accumulate(stream(client, **ASK | body)) | {"id": ""} == whole | {"id": ""}


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_loop_of_calls_ends_in_an_answer(client, choice):
    asked = OSLO | {"tool_choice": choice | {"disable_parallel_tool_use": True}}
    called = create(client, **asked)
    assert called["stop_reason"] == "tool_use"
    (call,) = called["content"]
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "get_weather", {"city": "Oslo"})
    (streamed,) = accumulate(stream(client, **asked))["content"]
    assert streamed["input"] == call["input"]
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "Sunny"}]}
    messages = [*OSLO["messages"], {"role": "assistant", "content": called["content"]}, user([result])]
    for none in ({"tool_choice": {"type": "none"}}, {"tools": []}):
        answer = create(client, **OSLO | none | {"messages": messages})
        assert [block["type"] for block in answer["content"]] == ["text"]
        assert answer["stop_reason"] in ("end_turn", "max_tokens")


@pytest.mark.parametrize("format", ["output_config", "output_format"])
def test_an_answer_follows_its_schema(client, format):
    wanted = {"type": "json_schema", "schema": SHOP}
    body = {"output_config": {"effort": "low", "format": wanted}} if format == "output_config" else {format: wanted}
    (block,) = create(client, **ASK | body)["content"]
    assert type(json.loads(block["text"])["open"]) is bool


def test_a_strict_tool_is_called_by_its_schema(client):
    digits = {"type": "string", "pattern": "^[0-9]{3}$"}
    schema = {"type": "object", "properties": {"city": digits}, "required": ["city"], "additionalProperties": False}
    strict = WEATHER | {"input_schema": schema, "strict": True}
    content = create(client, **OSLO | {"tools": [strict], "tool_choice": {"type": "any"}})["content"]
    assert content[0]["input"]["city"].isdecimal()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"max_tokens": None}, "max_tokens: "),
        ({"model": "claude"}, "no model 'claude'"),
        ({"temperature": 1.5}, "temperature: "),
        ({"messages": [user("word " * 9000)]}, " tokens > 2047 maximum"),
        (
            {"messages": [user([{"type": "image", "source": {}}])]},
            "messages[0].content[0].image.source.type: Field required",
        ),
        ({"messages": [user([{"type": "tool_use"}])]}, "messages[0].content[0]"),
        ({"messages": [user([CALL])]}, "messages[0].content[0]: a message of the role user"),
        ({"messages": [user("?"), {"role": "assistant", "content": "The"}]}, "messages: the last message is"),
        ({"messages": [user("?"), {"role": "system", "content": "?"}] * 501}, "there are more than 1,000 messages"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type: "),
        ({"tools": [{"name": "ring"}]}, "tools[0].input_schema: "),
        ({"tools": [WEATHER, WEATHER]}, "two tools"),
        ({"tool_choice": {"type": "any"}}, "tool_choice: any needs a tool"),
        ({"mcp_servers": [{"url": "http://a"}]}, "mcp_servers is not supported"),
        ({"output_format": {"type": "json_schema", "schema": {"type": 1}}}, "output_format.schema: "),
    ],
)
def test_errors_are_in_its_own_format(client, body, named):
    reply = client.post(PATH, json={k: v for k, v in (ASK | body).items() if v is not None})
    found = reply.json()
    assert reply.headers["request-id"] == reply.headers["x-request-id"]
    wanted = (404, "not_found_error") if "model" in body else (400, "invalid_request_error")
    assert (reply.status_code, found["error"]["type"]) == wanted, found
    assert found["type"] == "error"
    assert named in found["error"]["message"]


@pytest.mark.parametrize("path", [PATH, f"{PATH}/count_tokens"])
def test_errors_before_the_endpoint_are_in_its_format_too(demo_folder, path):
    limits = Limits(body_bytes=1000)
    with (
        serving_ours(demo_folder.path, device="ECHO", limits=limits, api_key="secret") as (url, _),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        key = {"authorization": "Bearer secret"}
        for reply, kind in (
            (client.post(path, json=ASK), "authentication_error"),
            (client.post(path, json=ASK, headers=key | {"host": "evil.example"}), "permission_error"),
            (client.post(path, content=b" " * 2000, headers=key), "request_too_large"),
            (client.get(path, headers=key), "invalid_request_error"),
        ):
            assert reply.json()["type"] == "error", reply.text
            assert reply.json()["error"]["type"] == kind


def test_models_have_its_fields_too(client):
    models = client.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()
    (model,) = models["data"]
    assert (models["has_more"], models["first_id"], models["last_id"]) == (False, model["id"], model["id"])
    assert (model["type"], model["display_name"], model["lifecycle"]) == ("model", model["id"], "active")
    assert model["created_at"].endswith("Z")
    assert client.get(f"/v1/models/{model['id']}").json() == model


def test_history_becomes_a_chat():
    messages = [
        user("Hello"),
        user([{"type": "text", "text": "Is it warm?", "cache_control": {"type": "ephemeral"}}]),
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Oslo?", "signature": "s"}]},
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}, CALL]},
        user(
            [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no such city", "is_error": True},
                {"type": "text", "text": "Paris, then"},
            ]
        ),
        {"role": "system", "content": "Be brief."},
        user([{"type": "document", "title": "A", "source": {"type": "text", "data": "B", "media_type": "text/plain"}}]),
    ]
    system = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    body = CountTokensRequest.model_validate({"system": system, "messages": messages})
    assert to_messages(body.system, body.messages, Limits()) == [
        Message("system", "One.\nTwo."),
        Message("user", "Hello\nIs it warm?"),
        Message("assistant", "", "Oslo?", (ToolCall("get_weather", '{"city": "Oslo"}', "toolu_1"),)),
        Message("tool", "Error: no such city", tool_call_id="toolu_1", name="get_weather"),
        Message("user", "Paris, then"),
        Message("system", "Be brief."),
        Message("user", "A\nB"),
    ]


FILE_IMAGE = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}


@pytest.mark.parametrize(
    ("block", "named"),
    [
        ({"type": "document", "source": {"type": "base64", "data": ""}}, "content[0].source"),
        ({"type": "document", "source": {"type": "text", "data": ""}, "citations": {"enabled": True}}, "citations"),
        ({"type": "tool_result", "tool_use_id": "1", "content": [FILE_IMAGE]}, "content[0].content[0]"),
    ],
)
def test_content_that_has_no_text_is_rejected(block, named):
    with pytest.raises(ApiError) as error:
        to_messages(None, [MessageParam.model_validate(user([block]))], Limits())
    assert error.value.code == "unsupported_parameter"
    assert named in error.value.param


REASONED = [
    Reasoning("Hm"),
    Reasoning("."),
    Text(""),
    Text("Let me see."),
    ToolCallDelta("a", "ring", '{"n": '),
    ToolCallDelta("a", "ring", "1}"),
    ToolCall("ring", '{"n": 1}', "a"),
    ToolCall("ring", '{"n": 2, "of": "do', "b", complete=False),
    Finish("stop", Usage(7, 9)),
]


@pytest.mark.parametrize(
    ("thinking", "blocks"),
    [
        (None, ["text", "tool_use", "tool_use"]),
        ({"type": "disabled"}, ["text", "tool_use", "tool_use"]),
        ({"type": "enabled", "budget_tokens": 1024}, ["thinking", "text", "tool_use", "tool_use"]),
        ({"type": "adaptive", "display": "omitted"}, ["thinking", "text", "tool_use", "tool_use"]),
    ],
)
def test_reasoning_becomes_thinking_blocks_for_those_who_want_them(thinking, blocks):
    body = CountTokensRequest.model_validate({"messages": [user("?")], "thinking": thinking})
    encoder = MessageStream(body, "glm")
    events = parse(encoder.opening() + "".join(encoder.encode(0, event) for event in REASONED) + encoder.ending())
    content = encoder.whole["content"]
    assert [block["type"] for block in content] == blocks
    assert [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"] == blocks
    if "thinking" in blocks:
        assert content[0]["thinking"] == ("" if thinking.get("display") else "Hm.")
        assert content[0]["signature"]
    assert [block["input"] for block in content[-2:]] == [{"n": 1}, {"n": 2}]
    assert encoder.whole["stop_reason"] == "tool_use"
    assert encoder.whole["usage"] == events[-2]["usage"]
    assert parse(encoder.failure(ApiError(503, "busy")))[0]["error"] == {"type": "overloaded_error", "message": "busy"}


def test_a_client_waits_for_the_first_token_with_pings():
    assert parse(MessageStream(CountTokensRequest.model_validate({"messages": [user("?")]}), "").heartbeat) == [
        {"type": "ping"}
    ]


def test_thinking_reaches_the_chat_template(demo_folder):
    for thinking, wanted in ((None, "unset"), ({"type": "disabled"}, "False"), ({"type": "adaptive"}, "True")):
        with (
            scripted(demo_folder, ["\nHello"]) as (url, dispatcher, engine),
            httpx2.Client(base_url=url, timeout=60) as client,
        ):
            (entry,) = dispatcher.pool.entries.values()
            entry.model = entry.model.with_template("{{ enable_thinking | default('unset') }}")
            create(client, **ASK | ({"thinking": thinking} if thinking else {}))
            assert "".join(engine.requests[0].prompt) == wanted
