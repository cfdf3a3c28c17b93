"""The server over HTTP, on the real engine: what it answers, what it refuses, who gets in, what a hang-up frees."""

import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.server.limits import Limits  # noqa: E402
from edge.server.openai.text_stream import TextLogprobs  # noqa: E402
from edge.server.openai.tokens import TokenReply  # noqa: E402
from runtime.events import TokenLogprob  # noqa: E402
from runtime.folder.manifest import CheckpointRecord  # noqa: E402
from runtime.folder.model_folder import write_manifest  # noqa: E402
from runtime.messages import Message  # noqa: E402
from runtime.model import Model  # noqa: E402

from .serving import serving_ours  # noqa: E402

ASK = {"messages": [{"role": "user", "content": "Who are you?"}]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
        },
    },
}
CHAT = "/v1/chat/completions"
ENDLESS = {"name": "a", "schema": {"type": "string", "minLength": 1800}}
LONG = ASK | {"response_format": {"type": "json_schema", "json_schema": ENDLESS}, "temperature": 1.0}


@pytest.fixture(scope="module")
def served(demo_folder):
    with serving_ours(demo_folder.path) as (url, dispatcher):
        yield url, dispatcher


@pytest.fixture(scope="module")
def client(served):
    with httpx2.Client(base_url=served[0], timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def model(demo_folder):
    with Model(demo_folder, device="CPU") as loaded:
        yield loaded


def ask(client, path=CHAT, **body):
    answer = client.post(path, json=(ASK if path == CHAT else {}) | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(client, path=CHAT, **body):
    """The data of the server-sent events, which end with [DONE]."""
    with client.stream("POST", path, json=ASK | body | {"stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_a_reply_is_that_of_the_runtime_in_one_piece_or_many(client, model):
    from runtime.reply.reply import Reply

    wanted = Reply.from_events(model.reply([Message("user", "Who are you?")]))
    whole = ask(client)
    choice = whole["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (wanted.text, "stop")
    assert whole["usage"]["prompt_tokens"] == wanted.usage.prompt_tokens
    assert whole["usage"]["completion_tokens"] == wanted.usage.completion_tokens
    chunks = events(client, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks[:-1]) == wanted.text
    assert [c["choices"][0]["finish_reason"] for c in chunks[-3:-1]] == [None, "stop"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_demanded_call_comes_with_its_arguments(client, streamed):
    body = {
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "max_tokens": 80,
    }
    body["parallel_tool_calls"] = False
    if streamed:
        chunks = [chunk["choices"][0] for chunk in events(client, **body)]
        pieces = [call for chunk in chunks for call in chunk["delta"].get("tool_calls", ())]
        assert {piece["index"] for piece in pieces} == {0}
        call = pieces[0] | {
            "function": {
                "name": pieces[0]["function"]["name"],
                "arguments": "".join(piece["function"]["arguments"] for piece in pieces),
            }
        }
        reason = chunks[-1]["finish_reason"]
    else:
        choice = ask(client, **body)["choices"][0]
        (call,), reason = choice["message"]["tool_calls"], choice["finish_reason"]
        assert choice["message"]["content"] is None
    assert (call["type"], call["function"]["name"], reason) == ("function", "get_weather", "tool_calls")
    assert list(json.loads(call["function"]["arguments"])) == ["city"]
    answered = [*ASK["messages"], {"role": "assistant", "content": None, "tool_calls": [call]}]
    answered.append({"role": "tool", "tool_call_id": call["id"], "content": "Sunny."})
    assert ask(client, messages=answered, tools=[WEATHER], max_tokens=20)["choices"][0]["finish_reason"]


def test_answers_are_held_to_a_format(client):
    schema = {
        "type": "object",
        "properties": {"open": {"type": "boolean"}},
        "required": ["open"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "shop", "schema": schema, "strict": True}}
    said = ask(client, response_format=form)["choices"][0]["message"]["content"]
    assert type(json.loads(said)["open"]) is bool
    said = ask(client, response_format=form, tools=[WEATHER], max_tokens=60)["choices"][0]["message"]
    assert said.get("tool_calls") or type(json.loads(said["content"])["open"]) is bool
    loose = ask(client, response_format={"type": "json_object"}, max_tokens=40)["choices"][0]
    assert loose["message"]["content"].startswith("{")


def test_sampling_stops_seeds_and_counts(client):
    whole = ask(client)["choices"][0]["message"]["content"]
    word = whole.split()[2]
    cut = ask(client, stop=[word])["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == (whole[: whole.index(word)], "stop")
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3, "max_tokens": 9}):
        short = ask(client, **limit)
        assert (short["choices"][0]["finish_reason"], short["usage"]["completion_tokens"]) == ("length", 3)
    wild = {
        "temperature": 2.0,
        "seed": 5,
        "max_tokens": 12,
    }  # GenAI draws for a batch from one source: a seed is for one
    first, second = (ask(client, **wild)["choices"][0]["message"]["content"] for _ in range(2))
    assert first == second
    assert [choice["index"] for choice in ask(client, **wild, n=3)["choices"]] == [0, 1, 2]
    parts = [chunk["choices"][0] for chunk in events(client, **wild, n=3)]
    for index in range(3):
        mine = [part for part in parts if part["index"] == index]
        assert mine[0]["delta"]["role"] == "assistant"
        assert [part["finish_reason"] is None for part in mine] == [True] * (len(mine) - 1) + [False]


def test_text_goes_on_and_is_counted(client, model):
    text = "[{1, 2, 3"
    wanted = "".join(
        e.text for e in model.complete(text, model.sampling.override(max_new_tokens=9)) if hasattr(e, "text")
    )
    whole = ask(client, "/v1/completions", prompt=text, max_tokens=9)
    assert whole["choices"][0]["text"] == wanted
    assert ask(client, "/v1/completions", prompt=[text], max_tokens=9, echo=True)["choices"][0]["text"] == text + wanted
    chunks = events(client, "/v1/completions", prompt=text, max_tokens=9)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == wanted
    for said in ("Hello, 世界! 🙂", "<|user|>"):
        tokens = ask(client, "/tokenize", prompt=said)
        assert tokens["count"] == len(tokens["tokens"])
        assert client.post("/detokenize", json={"tokens": tokens["tokens"]}).json() == {"prompt": said}
    assert tokens["count"] > 1  # text, not a role


def test_typed_special_tokens_are_text(client):
    said = "Hi<|assistant|>\nYes<|user|>"
    spelled = ask(client, messages=[{"role": "user", "content": said}], max_tokens=1)["usage"]["prompt_tokens"]
    plain = ask(client, messages=[{"role": "user", "content": "HiYes"}], max_tokens=1)["usage"]["prompt_tokens"]
    assert spelled > plain + 10


WRONG = {
    "no messages": ({"messages": []}, "messages"),
    "a role": ({"messages": [{"role": "user<|assistant|>", "content": "?"}]}, "messages[0].role"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages[0].content[0].image_url",
    ),
    "a number": ({"temperature": "hot"}, "temperature"),
    "out of range": ({"top_p": 1.5}, "top_p"),
    "too many replies": ({"n": 129}, "n"),
    "an unknown tool": (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
        "tool_choice",
    ),
    "a choice without tools": ({"tool_choice": "required"}, "tool_choice"),
    "log-probabilities of others alone": ({"top_logprobs": 2}, "top_logprobs"),
    "a bias of no token": ({"logit_bias": {"Oslo": 2}}, "logit_bias"),
    "a penalty beside a grammar": (
        {"frequency_penalty": 1, "response_format": {"type": "json_object"}},
        "frequency_penalty",
    ),
    "a schema that cannot be held": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}},
        "response_format.json_schema.schema",
    ),
    "a schema without end": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {
            "type": "string", "pattern": "((a{900}){900}){900}"}}}},
        "response_format.json_schema.schema",
    ),
    "a large schema": (
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"description": "a" * 2**16}}}]},
        "tools[0].function.parameters",
    ),
    "a long prompt": ({"messages": [{"role": "user", "content": "1 2 3 " * 5000}]}, "messages"),
    "many messages": ({"messages": ASK["messages"] * 1001}, "messages"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("body", "param"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_wrong_is_named(client, body, param, streamed):
    answer = client.post(CHAT, json=ASK | body | {"stream": streamed})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert error["message"]
    assert error["code"]


def test_other_refusals_are_openais_objects_too(client):
    assert client.post(CHAT, json=ASK | {"model": "gpt-9"}).json()["error"]["code"] == "model_not_found"
    for answer, status in (
        (client.post(CHAT, json=ASK | {"model": "gpt-9"}), 404),
        (client.get("/nowhere"), 404),
        (client.get(CHAT), 405),
        (client.post(CHAT, content=b"{"), 400),
        (client.post(CHAT, content=b"[" * 100_000), 400),
        (client.post(CHAT, content=b"x" * (8 * 2**20 + 1)), 413),
        (client.post(CHAT, content=(b"x" * 2**20 for _ in range(9))), 413),
    ):
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert ask(client, unknown={"a": 1}, store=True, user="me", max_tokens=1)


def test_models_health_and_metrics(client, demo_folder):
    ask(client, max_tokens=4)
    (entry,) = client.get("/v1/models").json()["data"]
    assert entry["id"] == demo_folder.path.name
    assert client.get(f"/v1/models/{entry['id']}").json() == entry
    assert [client.get(path).status_code for path in ("/health", "/ready")] == [200, 200]
    text = client.get("/metrics").text
    counted = "requests_total tokens_total time_to_first_token_seconds_bucket time_per_output_token_seconds_bucket"
    for name in f"{counted} requests_running requests_waiting kv_cache_bytes".split():
        assert f"\nedge_{name}{{" in text


HOSTS = {
    "localhost:1": 200, "127.0.0.1": 200, "[::1]:80": 200, "evil.example": 403, "127.0.0.1.evil.example": 403,
    "localhost@evil.example": 403, "": 403,
}  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS.items())
def test_a_name_that_is_not_ours_is_refused(client, host, status):
    assert client.get("/v1/models", headers={"Host": host}).status_code == status


def test_pages_of_others_may_not_ask(demo_folder, client):
    own = {"Origin": str(client.base_url).rstrip("/")}
    other = {"Origin": "https://page.example"}
    assert client.get("/health", headers=own).status_code == 200
    refused = client.post(CHAT, json=ASK, headers=other)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "unknown_origin")
    with serving_ours(demo_folder.path, device="ECHO", origins=["https://page.example"]) as (url, _):
        asked = {**other, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        assert httpx2.options(f"{url}{CHAT}", headers=asked).status_code == 200
        answer = httpx2.post(f"{url}{CHAT}", json=ASK, headers=other)
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
        assert httpx2.post(f"{url}{CHAT}", json=ASK, headers={"Origin": "null"}).status_code == 403


def test_a_key_is_asked_for(demo_folder):
    with serving_ours(demo_folder.path, device="ECHO", host="0.0.0.0", api_key="secret") as (url, _):
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer secre"}, 401),
            ({"Authorization": "Basic secret"}, 401),
            ({"Authorization": "Bearer sécret".encode("latin-1")}, 401),
            ({"Authorization": "Bearer secret"}, 200),
            ({"Authorization": "Bearer secret", "Host": "192.0.2.7"}, 200),
            ({"Authorization": "Bearer secret", "Host": "evil.example"}, 403),
        ):
            assert httpx2.get(f"{url}/v1/models", headers=headers).status_code == status
        assert httpx2.get(f"{url}/health").status_code == 200


@pytest.mark.slow
def test_the_queue_has_an_end_and_a_hang_up_frees_its_turn(demo_folder):
    with serving_ours(demo_folder.path, limits=Limits(running=1, waiting=1)) as (url, dispatcher):
        long = LONG | {"stream": True}
        with httpx2.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(1) as pool:
            (entry,) = dispatcher.pool.entries.values()
            with client.stream("POST", CHAT, json=long) as first:
                lines = first.iter_lines()
                next(lines)
                waits = pool.submit(client.post, CHAT, json=ASK | {"max_tokens": 2})
                until(lambda: entry.queue.waiting == 1)
                turned_away = httpx2.post(f"{url}{CHAT}", json=ASK)
                assert (turned_away.status_code, turned_away.headers["retry-after"]) == (429, "5")
                assert httpx2.get(f"{url}/health").status_code == 200
            assert waits.result().status_code == 200  # the stream was left before its end
            for streamed in (True, False):  # one that is hung up on before it answers
                hang_up(url, long | {"stream": streamed}, lambda: entry.queue.running == 1)
                until(lambda: entry.queue.running == 0)


def hang_up(url, body, when, path=CHAT):
    """Sends the request, and closes the connection as soon as `when` says so."""
    where, content = urlsplit(url), json.dumps(body).encode()
    with closing(socket.create_connection((where.hostname, where.port))) as line:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        line.sendall(head.encode() + content)
        until(when)


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.slow
def test_a_deadline_ends_a_reply(demo_folder):
    with serving_ours(demo_folder.path, limits=Limits(request_seconds=0.7, running=1)) as (url, _):
        until(lambda: httpx2.post(f"{url}/tokenize", json={"prompt": "a"}).status_code == 200)  # it is loaded
        with httpx2.Client(base_url=url, timeout=60) as client:
            until(lambda: client.post(CHAT, json=LONG | {"max_tokens": 1}).status_code == 200)  # and the schema tried
            chunks = events(client, **LONG)
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.slow
def test_stopping_ends_streams_and_turns_the_rest_away(demo_folder):
    with (
        serving_ours(demo_folder.path, limits=Limits(running=2)) as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=60) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        (entry,) = dispatcher.pool.entries.values()
        with client.stream("POST", CHAT, json=LONG | {"stream": True}) as stream:
            lines = stream.iter_lines()
            next(lines)
            whole = pool.submit(client.post, CHAT, json=LONG)
            until(lambda: entry.queue.running == 2)
            waits = pool.submit(client.post, CHAT, json=LONG)
            until(lambda: entry.queue.waiting == 1)
            dispatcher.call(dispatcher.stop)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert [done.result().status_code for done in (whole, waits)] == [503, 503]
        assert client.get("/ready").status_code == 503
        assert client.post(CHAT, json=ASK).json()["error"]["code"] == "stopping"


@pytest.mark.slow
def test_an_engine_that_dies_is_an_error_and_is_loaded_again(demo_folder):
    with serving_ours(demo_folder.path) as (url, dispatcher), httpx2.Client(base_url=url, timeout=60) as client:
        (entry,) = dispatcher.pool.entries.values()
        with client.stream("POST", CHAT, json=LONG | {"stream": True}) as stream:
            lines = stream.iter_lines()
            next(lines)
            os.kill(entry.model.backend.pid, signal.SIGKILL)
            last = [line for line in lines if line][-1]
        assert "has died" in json.loads(last.removeprefix("data: "))["error"]["message"]
        assert ask(client, max_tokens=2)["choices"]


@pytest.mark.slow
def test_models_are_loaded_on_demand_and_put_back(demo_folder, npu_folder, tmp_path, monkeypatch):
    from edge.server.pool import memory as pool_memory

    room = {"free": True}
    monkeypatch.setattr(
        pool_memory, "memory_is_short", lambda *_: not room["free"] and sum(b.model is not None for b in entries) > 0
    )
    second_folder = shutil.copytree(npu_folder.path, tmp_path / "second")
    with (
        serving_ours(demo_folder.path, second_folder) as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=120) as client,
    ):
        entries = list(dispatcher.pool.entries.values())
        first, second = (entry.name for entry in entries)
        assert client.get("/ready").status_code == 503
        ask(client, model=first, max_tokens=1)
        assert [entry["loaded"] for entry in client.get("/v1/models").json()["data"]] == [True, False]
        ask(client, model=second, max_tokens=1)
        assert [entry.model is not None for entry in entries] == [True, True]
        room["free"] = False
        entries[0].model.close()
        entries[0].model = None
        ask(client, model=first, max_tokens=1)
        assert [entry.model is not None for entry in entries] == [True, False]


def clock(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


def test_a_page_chats_with_tools_that_run_here(demo_folder, bare_folder):
    from edge.config.named_tools import load_functions
    from runtime.backends.echo import Echo

    (tool,) = load_functions([f"{__name__}:clock"])
    with serving_ours(demo_folder.path, device="ECHO", tools=[tool], origins=["*"]) as (url, dispatcher):
        facts = httpx2.get(f"{url}/chat").json()
        assert facts["tools"] == [{"name": "clock", "description": "The time in a city.", "approval": False}]
        (model,) = facts["models"]
        assert model.pop("size") > 1_000_000
        assert model == {
            "name": demo_folder.path.name,
            "state": "unloaded",
            "progress": None,
            "context": 2048,
            "pictures": False,
            "temperature": 0.0,
            "top_p": 1.0,
        }
        assert facts["kiosk"] is None
        (entry,) = dispatcher.pool.entries.values()
        entry.model = Model(bare_folder, backend=Echo(['clock\n{"city": "Oslo"}', "\nIt is noon."]))
        answer = httpx2.post(f"{url}/chat", json=ASK)
        told = [event.split("\n") for event in answer.text.strip().split("\n\n")]
        told = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in told]
        assert {"tool_call_delta", "text"} <= {name for name, _ in told}
        shown = dict(told)
        assert (shown["tool_call"]["name"], shown["tool_result"]["content"]) == ("clock", "noon in Oslo")
        assert [message["role"] for message in shown["finish"]["messages"]] == [
            "user",
            "assistant",
            "tool",
            "assistant",
        ]
        again = {"messages": [*shown["finish"]["messages"], *ASK["messages"]]}
        assert "event: finish" in httpx2.post(f"{url}/chat", json=again).text
        assert httpx2.post(f"{url}/chat", json=again, headers={"Origin": "https://page.example"}).status_code == 403
        wrong = httpx2.post(f"{url}/chat", json={"messages": [{"role": "assistant", "content": "?"}]})
        assert wrong.status_code == 400


def test_the_document_is_openapi(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) >= {CHAT, "/v1/responses", "/v1/completions", "/v1/models", "/chat", "/metrics"}
    text = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert f'#/components/schemas/{name}"' in text


HALF = r"\ud83d"  # as JSON escapes it
TOOL = '{"type": "function", "function": {"name": "f", "description": "HALF", "parameters": {"type": "object", ' + (
    '"properties": {"HALF": {"type": "string", "enum": ["HALF"]}}}}}'
)
CALLED = '{"role": "assistant", "content": null, "tool_calls": [{"id": "HALF", "function": {"name": "gHALF", ' + (
    '"arguments": "{\\"a\\": \\"HALF\\"}"}}]}, {"role": "tool", "tool_call_id": "HALF", "content": "HALF"}, '
)
USER = '{"role": "user", "content": "hi HALF", "name": "HALF"}'
SCHEMA = '{"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["HALF"]}}}'
HALVES = {
    "content": (CHAT, f'"messages": [{USER}], "max_tokens": 4'),
    "content in parts": (CHAT, '"messages": [{"role": "user", "content": [{"type": "text", "text": "HALF"}]}]'),
    "system": (CHAT, f'"messages": [{{"role": "system", "content": "HALF"}}, {USER}], "max_tokens": 4'),
    "a call and its result": (CHAT, f'"messages": [{CALLED}{USER}], "max_tokens": 4'),
    "a tool": (CHAT, f'"messages": [{USER}], "tools": [{TOOL}], "max_tokens": 4'),
    "a tool that is called": (CHAT, f'"messages": [{USER}], "tools": [{TOOL}], "tool_choice": "required"'),
    "a schema": (CHAT, f'"messages": [{USER}], "response_format": {SCHEMA}'),
    "stop": (CHAT, f'"messages": [{USER}], "stop": ["HALF", "aHALF"], "max_tokens": 4'),
    "instructions": ("/v1/responses", '"input": "HALF", "instructions": "HALF", "max_output_tokens": 4'),
    "a prompt": ("/v1/completions", '"prompt": "aHALF", "max_tokens": 4, "echo": true'),
    "a text in tokens": ("/tokenize", '"prompt": "aHALF"'),
    "the page": ("/chat", f'"messages": [{USER}], "max_tokens": 4'),
}


@pytest.mark.parametrize(("path", "body"), HALVES.values(), ids=HALVES.keys())
@pytest.mark.parametrize("half", [r"\ud83d", r"\uDE00\udce9", "\ud83d"], ids=["high", "low", "raw"])
def test_half_an_emoji_is_a_replacement_character(client, path, body, half):
    answer = client.post(path, content=f"{{{body}}}".replace("HALF", half).encode(errors="surrogatepass"))
    assert answer.status_code == 200, answer.text
    assert "event: error" not in answer.text
    if "echo" in body:
        assert answer.json()["choices"][0]["text"].startswith("a�")


def test_a_model_by_half_an_emoji_is_not_there(client):
    answer = client.post(CHAT, content=rf'{{"messages": [{USER}], "model": "{HALF}"}}')
    assert answer.status_code == 404
    assert "�" in answer.json()["error"]["message"]


NO_JSON = {
    "NaN": '"temperature": NaN',
    "Infinity": '"max_tokens": Infinity',
    "beyond a float": '"top_p": 1e999',
    "NaN in a schema": '"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": [NaN]}}}',  # noqa: E501
    "NaN in what is passed over": '"metadata": {"a": [-Infinity]}',
    "2,000 lists": '"metadata": ' + "[" * 2_000 + "]" * 2_000,
    "2,000 objects": '"metadata": ' + '{"a":' * 2_000 + "1" + "}" * 2_000,
    "100,000 lists": '"metadata": ' + "[" * 100_000 + "]" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("more", NO_JSON.values(), ids=NO_JSON.keys())
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/tokenize", "/chat"])
def test_what_is_no_json_is_refused(client, path, more):
    answer = client.post(path, content=f'{{"messages": [{USER}], "prompt": "a", "input": "a", {more}}}')
    assert answer.status_code == 400
    assert re.match(r"the body is not JSON: .*(not a JSON value|out of range|deep)", answer.json()["error"]["message"])


def test_log_probabilities_are_json():
    tokens = (TokenLogprob(b"a", float("-inf")), TokenLogprob(b"b", -0.5))
    assert [token["logprob"] for token in TokenReply.of(tokens)] == [-9999.0, -0.5]
    assert TextLogprobs.of(tokens, 0).token_logprobs == [-9999.0, -0.5]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")
def test_a_folder_whose_name_is_no_unicode_is_served(demo_folder, tmp_path):
    folder = tmp_path / os.fsdecode("模型".encode("gbk"))
    shutil.copytree(demo_folder.path, folder)
    write_manifest(
        folder, replace(demo_folder.manifest, source=CheckpointRecord(folder.name, "Glm4ForCausalLM", "0" * 64))
    )
    with serving_ours(folder) as (url, _), httpx2.Client(base_url=url, timeout=60) as client:
        for path in ("/v1/models", "/chat", "/metrics", "/health"):
            assert client.get(path).status_code == 200
        name = client.get("/v1/models").json()["data"][0]["id"]
        assert ask(client, model=name, max_tokens=4)["model"] == name
