"""What docs/server.md says of the API's names, fields and limits: each at its bound and one past it."""

import json
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.server.app import ENDPOINTS  # noqa: E402
from edge.server.limits import Limits  # noqa: E402
from edge.server.openai.chat_request import ChatRequest  # noqa: E402
from edge.server.openai.tokens import TokenReply  # noqa: E402
from edge.server.page.chat import PageRequest  # noqa: E402
from edge.server.pool import memory as pool_memory  # noqa: E402
from runtime.errors import BackendError  # noqa: E402
from runtime.events import TokenLogprob  # noqa: E402
from runtime.folder.model_folder import write_manifest  # noqa: E402
from runtime.grammar.grammar import Choice, JsonObject, JsonSchema  # noqa: E402
from runtime.tools import to_tools  # noqa: E402

from .serving import scripted, serving_ours  # noqa: E402
from .test_server import ASK, CHAT, LONG, WEATHER, ask, events, until  # noqa: E402


@pytest.fixture(scope="module")
def client(demo_folder):
    with serving_ours(demo_folder.path) as (url, _), httpx2.Client(base_url=url, timeout=120) as client:
        yield client


def test_a_model_goes_by_its_folder_or_its_checkpoint(demo_folder, tmp_path):
    second = shutil.copytree(demo_folder.path, tmp_path / "second")
    with (
        serving_ours(demo_folder.path, second, device="ECHO") as (url, _),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        assert ask(client, model="second")["model"] == "second"
        for own in ({"model": demo_folder.manifest.source.name}, {"model": demo_folder.path.name}, {}):
            assert ask(client, **own)["model"] == demo_folder.path.name


def test_the_api_is_described_by_the_models_that_validate_it(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) >= {endpoint.path for endpoint in ENDPOINTS if endpoint.documented} | {"/chat"}
    for model in (ChatRequest, PageRequest):
        described = document["components"]["schemas"][model.__name__]
        assert set(described["properties"]) == set(model.model_json_schema()["properties"])


def test_more_replies_than_at_once(client):
    many = ask(client, n=11, max_tokens=1)
    assert [choice["index"] for choice in many["choices"]] == list(range(11))
    for path, body in ((CHAT, ASK), ("/v1/completions", {"prompt": "1"})):
        refused = client.post(path, json=body | {"n": 129})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "n")


def test_reasoning_comes_beside_the_content(bare_folder):
    thinking = write_manifest(bare_folder.path, replace(bare_folder.manifest, family="z1"))
    with (
        scripted(thinking, ["<think>So.</think>\nYes."] * 4) as (url, *_),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        said = ask(client)["choices"][0]["message"]
        assert (said["reasoning_content"], said["content"].strip()) == ("So.", "Yes.")
        deltas = [chunk["choices"][0]["delta"] for chunk in events(client)]
        assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "So."
        assert "".join(delta.get("content") or "" for delta in deltas).strip() == "Yes."
        kinds = [item["type"] for item in ask(client, "/v1/responses", input="?")["output"]]
        assert kinds == ["reasoning", "message"]


TOOL_AS_SENT = {
    "returns": "a number",
    "description": "Looks up.",
    "name": "look_up",
    "strict": False,
    "parameters": {"type": "object", "properties": {}},
    "response": {"type": "object", "x-own": [1, None]},
}


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
def test_a_tools_fields_reach_the_template_as_they_were_sent(bare_folder, path):
    tool = {"type": "function", "function": TOOL_AS_SENT} if path == CHAT else {"type": "function"} | TOOL_AS_SENT
    said = {"messages": [{"role": "user", "content": "?"}]} if path == CHAT else {"input": "?"}
    with scripted(bare_folder, ["Yes."]) as (url, _, engine), httpx2.Client(base_url=url, timeout=60) as client:
        assert client.post(path, json=said | {"tools": [tool]}).status_code == 200
        prompt = "".join(engine.requests[0].prompt)
    assert json.dumps(TOOL_AS_SENT, indent=4) in prompt


def test_the_template_gets_documents_and_variables(bare_folder):
    template = "[gMASK]{{ documents }} {{ enable_thinking }} {{ messages[0].content }}<|assistant|>"
    (bare_folder.path / "chat_template.jinja").write_text(template)
    write_manifest(bare_folder.path, bare_folder.manifest)
    body = {"documents": [{"title": "a"}], "chat_template_kwargs": {"enable_thinking": False}}
    with scripted(bare_folder, ["Yes."]) as (url, _, engine), httpx2.Client(base_url=url, timeout=60) as client:
        ask(client, **body)
        assert "".join(engine.requests[0].prompt).startswith("[gMASK][{'title': 'a'}] False ")
        refused = client.post(CHAT, json=ASK | {"chat_template_kwargs": {"messages": []}})
        assert (refused.status_code, "'messages'" in refused.text) == (400, True)


SCHEMA = {
    "type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"], "additionalProperties": False,
}  # fmt: skip
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
REFUSED = {
    "top_logprobs alone": (CHAT, {"top_logprobs": 1}, "top_logprobs"),
    "frequency_penalty beside a grammar": (CHAT, {"frequency_penalty": 0.1, "regex": "a+"}, "frequency_penalty"),
    "more presence_penalty": (CHAT, {"presence_penalty": 2.5}, "presence_penalty"),
    "more logit_bias": (CHAT, {"logit_bias": {"1": 101}}, "logit_bias"),
    "functions": (CHAT, {"functions": [{"name": "f"}]}, "functions"),
    "an image": (CHAT, {"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0]"),
    "top_logprobs of responses": ("/v1/responses", {"input": "?", "top_logprobs": 1}, "top_logprobs"),
    "an image of responses": (
        "/v1/responses",
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]},
        "input",
    ),
    "a response before": ("/v1/responses", {"input": "?", "previous_response_id": "resp_1"}, "previous_response_id"),
    "suffix": ("/v1/completions", {"prompt": "a", "suffix": "b"}, "suffix"),
    "logit_bias of completions": ("/v1/completions", {"prompt": "a", "logit_bias": {"-1": 5}}, "logit_bias"),
    "echo beside a grammar": ("/v1/completions", {"prompt": "a", "echo": True, "logprobs": 0, "regex": "a"}, "echo"),
    "best_of": ("/v1/completions", {"prompt": "a", "best_of": 2}, "best_of"),
    "too many prompts": ("/v1/completions", {"prompt": ["a", "b"], "n": 65}, "prompt"),
    "no tokens": ("/v1/completions", {"prompt": "a", "max_tokens": 0}, "max_tokens"),
    "an empty prompt": ("/v1/completions", {"prompt": []}, "prompt"),
    "skip_special_tokens": ("/v1/completions", {"prompt": "a", "skip_special_tokens": True}, "skip_special_tokens"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "body", "param"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_supported_is_rejected_by_name(client, path, body, param):
    refused = client.post(path, json=(ASK if path == CHAT else {}) | body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_a_schema_beside_json_object_is_enforced(client):
    form = {"type": "json_object", "schema": SCHEMA}
    said = ask(client, response_format=form)["choices"][0]["message"]["content"]
    assert type(json.loads(said)["open"]) is bool
    (item,) = ask(client, "/v1/responses", input="?", text={"format": form})["output"]
    assert type(json.loads(item["content"][0]["text"])["open"]) is bool


@pytest.mark.parametrize(("strict", "arguments"), [(True, JsonSchema), (False, JsonObject)])
def test_a_format_and_tools_leave_an_answer_or_a_call(bare_folder, strict, arguments):
    tools = [{"type": "function", "function": WEATHER["function"] | {"strict": strict}}]
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "boolean"}}}
    replies = ["get_weather\n", '{"city": "Rome"}', "", "\n", "true"]
    with scripted(bare_folder, replies) as (url, _, engine), httpx2.Client(base_url=url, timeout=60) as client:
        called = ask(client, tools=tools, response_format=form)["choices"][0]
        assert called["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Rome"}'
        assert [type(asked.grammar) for asked in engine.requests[:2]] == [Choice, arguments]
        assert ask(client, tools=tools, response_format=form)["choices"][0]["message"]["content"] == "true"
        assert [type(asked.grammar) for asked in engine.requests[-2:]] == [Choice, JsonSchema]


def test_sampling_beyond_openais_reaches_the_model(client):
    greedy = ask(client)["choices"][0]["message"]["content"]
    assert ask(client, temperature=2.0, top_k=1)["choices"][0]["message"]["content"] == greedy
    assert ask(client, repetition_penalty=10.0)["choices"][0]["message"]["content"] != greedy


def test_a_part_of_a_character_has_its_bytes():
    (token,) = TokenReply.of((TokenLogprob(b"\xe4", -1.0),))
    assert (token["token"], token["bytes"]) == ("�", [0xE4])


def test_what_needs_a_key(bare_folder):
    with scripted(bare_folder, [], api_key="secret") as (url, *_):
        for path in ("/", "/health", "/ready"):
            assert httpx2.get(f"{url}{path}").status_code == 200
        for path in ("/v1/models", "/metrics", "/openapi.json", "/chat"):
            assert httpx2.get(f"{url}{path}").status_code == 401
        for path in (CHAT, "/v1/responses", "/v1/completions", "/tokenize", "/detokenize", "/chat"):
            assert httpx2.post(f"{url}{path}", json=ASK).status_code == 401


HOSTS = {
    ("myhost.example", "myhost.example"): 200,
    ("myhost.example", "other.example"): 403,
    ("127.0.0.1", "192.0.2.7"): 403,
    ("0.0.0.0", "192.0.2.7"): 200,
    ("::", "[2001:db8::1]"): 200,
    ("0.0.0.0", socket.gethostname()): 200,
    ("0.0.0.0", f"{socket.gethostname()}.local"): 200,
    ("0.0.0.0", "other.example"): 403,
    ("127.0.0.1", f"{socket.gethostname()}.example"): 403,
}


@pytest.mark.parametrize(("names", "status"), HOSTS.items())
def test_the_names_of_the_server(bare_folder, names, status):
    bound, host = names
    with serving_ours(bare_folder.path, device="ECHO", host=bound) as (url, _):
        assert httpx2.get(f"{url}/health", headers={"Host": host}).status_code == status


def tool(number):
    return {"type": "function", "function": WEATHER["function"] | {"name": f"f{number}"}}


def schema(**own):
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string"} | own}}


LIMITS = {
    "1,000 messages": ({"messages": ASK["messages"] * 1000}, {"messages": ASK["messages"] * 1001}),
    "128 tools": ({"tools": [tool(i) for i in range(128)]}, {"tools": [tool(i) for i in range(129)]}),
    "a schema of 64 KiB": ({"response_format": schema(description="a" * 60_000)}, {"response_format": schema(description="a" * 2**16)}),  # noqa: E501
}  # fmt: skip


@pytest.mark.parametrize(("most", "more"), LIMITS.values(), ids=LIMITS.keys())
def test_limits_of_a_request(bare_folder, most, more):
    with scripted(bare_folder, []) as (url, *_), httpx2.Client(base_url=url, timeout=60) as client:
        assert ask(client, **most, max_tokens=1)["choices"]
        refused = client.post(CHAT, json=ASK | more)
        assert refused.status_code in (400, 413)
        assert refused.json()["error"]["code"] in ("too_many", "too_large", "schema_too_large")


def test_a_body_of_8_mib(bare_folder):
    with scripted(bare_folder, []) as (url, *_), httpx2.Client(base_url=url, timeout=60) as client:
        start, end = b'{"messages": [{"role": "user", "content": "hi"}], "metadata": "', b'"}'
        body = start + b"a" * (2**23 - len(start) - len(end)) + end
        assert client.post(CHAT, content=body).status_code == 200
        assert client.post(CHAT, content=body + b" ").status_code == 413


def test_sixteen_are_written_64_wait_and_the_rest_is_turned_away(bare_folder):
    with scripted(bare_folder, ["a" * 20] * 80, pause=0.5) as (url, dispatcher, engine):
        (entry,) = dispatcher.pool.entries.values()
        limits = httpx2.Limits(max_connections=100)
        with httpx2.Client(base_url=url, timeout=60, limits=limits) as client, ThreadPoolExecutor(80) as pool:
            asked = [pool.submit(client.post, CHAT, json=ASK) for _ in range(80)]
            until(lambda: (entry.queue.running, entry.queue.waiting) == (16, 64))
            refused = client.post(CHAT, json=ASK)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
            engine.pause = 0
            assert {one.result().status_code for one in asked} == {200}


@pytest.mark.slow
def test_an_npu_takes_one_request_at_a_time(npu_folder):
    with (
        serving_ours(npu_folder.path, device="NPUW:CPU") as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=120) as client,
    ):
        assert ask(client, max_tokens=1)["choices"]
        (entry,) = dispatcher.pool.entries.values()
        assert entry.queue.limit == 1
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(client.post, CHAT, json=ASK | {"max_tokens": 20}) for _ in range(3)]
            until(lambda: (entry.queue.running, entry.queue.waiting) == (1, 2))
            assert {one.result().status_code for one in asked} == {200}


def test_who_waits_for_a_turn_until_its_deadline_is_told(bare_folder):
    assert Limits().request_seconds == 600
    with scripted(bare_folder, [], limits=Limits(request_seconds=0.3, running=1)) as (url, dispatcher, _):
        (entry,) = dispatcher.pool.entries.values()
        entry.queue.running = 1  # as one that is being written
        late = httpx2.post(f"{url}{CHAT}", json=LONG, timeout=60)
        assert (late.status_code, late.json()["error"]["code"]) == (503, "timeout")
        assert entry.queue.waiting == 0


def test_the_model_unused_for_longest_makes_room(bare_folder, tmp_path, monkeypatch):
    folders = [shutil.copytree(bare_folder.path, tmp_path / name) for name in "abc"]
    with serving_ours(*folders, device="ECHO") as (url, dispatcher), httpx2.Client(base_url=url, timeout=60) as client:
        entries = dispatcher.pool.entries.values()
        monkeypatch.setattr(
            pool_memory, "memory_is_short", lambda *_: sum(entry.model is not None for entry in entries) >= 2
        )
        for name in "abac":
            ask(client, model=name)
        assert [entry["id"] for entry in client.get("/v1/models").json()["data"] if entry["loaded"]] == ["a", "c"]


def fine() -> str:
    """A tool."""
    return "fine"


def page_events(url, body):
    """The names of the page's events, and the data of each."""
    answer = httpx2.post(f"{url}/chat", json=body, timeout=60)
    assert answer.status_code == 200
    lines = [event.split("\n") for event in answer.text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


FIELDS = {
    "text": {"text"},
    "reasoning": {"text"},
    "tool_call_delta": {"id", "name", "arguments"},
    "tool_call": {"id", "name", "arguments", "complete"},
    "tool_result": {"call_id", "name", "content", "error", "pictures", "citations"},
    "finish": {"reason", "usage", "messages", "context_used"},
}


def test_the_pages_events_have_their_fields(bare_folder, monkeypatch):
    thinking = write_manifest(bare_folder.path, replace(bare_folder.manifest, family="z1"))
    call = "<think>Now.</think>\nfine\n{}"
    tools = tuple(to_tools([fine]).values())
    with scripted(
        thinking, [call, "<think>So.</think>\nYes.", *[call] * 8, "<think>So.</think>\nYes."], tools=tools
    ) as (
        url,
        _,
        engine,
    ):
        told = page_events(url, ASK)
        for name, data in told:
            assert {key for key in data if key != "problem"} == FIELDS[name], name
        assert {name for name, _ in told} == set(FIELDS)
        assert told[-1][1]["reason"] == "stop"
        assert page_events(url, ASK)[-1][1]["reason"] == "rounds"
        assert page_events(url, ASK | {"max_tokens": 4})[-1][1]["reason"] == "length"

        def fails(request):
            yield from list(type(engine).generate(engine, request))[:12]
            time.sleep(0.5)  # after the first event has gone out
            raise BackendError("the engine has died", hint="load it again")

        monkeypatch.setattr(engine, "generate", fails)
        name, data = page_events(url, ASK)[-1]
        assert (name, set(data)) == ("error", {"message", "type", "param", "code"})
        last = httpx2.post(f"{url}/chat", json={"messages": [*ASK["messages"], {"role": "assistant", "content": "?"}]})
        assert last.status_code == 400
