"""Ollama's API: what its requests may have, what they get, and what is rejected by name."""

import json
import time
from dataclasses import replace

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.server.limits import Limits  # noqa: E402
from edge.server.ollama.options import IGNORED, OllamaOptions  # noqa: E402
from runtime.backends.echo import Echo  # noqa: E402
from runtime.errors import BackendError  # noqa: E402
from runtime.folder.model_folder import write_manifest  # noqa: E402
from runtime.sampling import Sampling  # noqa: E402

from .serving import scripted, serving_ours  # noqa: E402

ASK = {"messages": [{"role": "user", "content": "Who are you?"}]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = 'get_weather\n{"city": "Oslo"}'
SHOP = {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


@pytest.fixture(scope="module")
def client(demo_folder):
    with serving_ours(demo_folder.path) as (url, _), httpx2.Client(base_url=url, timeout=120) as client:
        yield client


@pytest.fixture
def echo(bare_folder):
    """A client of the fake engine, and the engine, to whose script a test adds."""
    with scripted(bare_folder, []) as (url, _, engine), httpx2.Client(base_url=url, timeout=60) as client:
        yield client, engine


def post(client, path, body, status=200):
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def lines(client, path, body):
    """The lines of a reply, which is streamed without being asked for."""
    with client.stream("POST", path, json=body) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        return [json.loads(line) for line in answer.iter_lines()]


def test_a_chat_is_streamed_unless_it_is_not(client):
    streamed = lines(client, "/api/chat", ASK)
    whole = post(client, "/api/chat", ASK | {"stream": False})
    assert "".join(line["message"]["content"] for line in streamed) == whole["message"]["content"] != ""
    assert [line["done"] for line in streamed[-2:]] == [False, True]
    assert {line["message"]["role"] for line in streamed} == {"assistant"}
    last = streamed[-1]
    assert (last["done_reason"], last["eval_count"]) == ("stop", whole["eval_count"])
    for reply in (last, whole):
        assert reply["prompt_eval_count"] > 0
        assert all(type(reply[name]) is int for name in DURATIONS)
        parts = sum(reply[name] for name in DURATIONS[1:])
        assert reply["total_duration"] == pytest.approx(parts, rel=0.01)
    assert whole["model"] == "model"
    assert whole["created_at"].endswith("Z")


def test_a_prompt_is_a_message_or_raw(client):
    chat = post(client, "/api/chat", ASK | {"stream": False})["message"]["content"]
    generated = post(client, "/api/generate", {"prompt": "Who are you?", "stream": False})
    assert generated["response"] == chat
    assert "".join(line["response"] for line in lines(client, "/api/generate", {"prompt": "Who are you?"})) == chat
    raw = {"prompt": "[gMASK]<sop><|user|>\nWho are you?<|assistant|>", "raw": True, "stream": False}
    found = post(client, "/api/generate", raw)
    assert (found["response"].strip(), found["prompt_eval_count"]) == (chat, generated["prompt_eval_count"])


def test_a_system_message_goes_before_the_prompt(echo):
    client, engine = echo
    post(client, "/api/generate", {"prompt": "Hi", "system": "Be brief.", "stream": False})
    post(client, "/api/generate", {"prompt": "<|user|>Hi", "raw": True, "stream": False})
    assert "".join(engine.requests[0].prompt).startswith("[gMASK]<sop><|system|>\nBe brief.<|user|>\nHi")
    assert engine.requests[1].prompt == ("<|user|>Hi",)


def test_a_request_without_a_prompt_loads_the_model(demo_folder):
    with (
        serving_ours(demo_folder.path, device="ECHO") as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        (entry,) = dispatcher.pool.entries.values()
        assert client.get("/api/ps").json() == {"models": []}
        for path, body in (("/api/chat", {"messages": []}), ("/api/generate", {}), ("/api/generate", {"prompt": ""})):
            loaded = post(client, path, body)
            assert (loaded["done"], loaded["done_reason"]) == (True, "load")
            assert entry.model is not None
        (shown,) = client.get("/api/ps").json()["models"]
        assert (shown["name"], shown["context_length"], shown["size_vram"]) == ("model:latest", 2048, 0)


def test_calls_are_objects_and_their_results_find_them(echo):
    client, engine = echo
    twice = f"{CALL}<|assistant|>get_weather\n" + '{"city": "Rome"}'
    engine._replies[:] = [twice, twice, "Sunny."]
    body = ASK | {"tools": [WEATHER]}
    streamed = [line["message"] for line in lines(client, "/api/chat", body)]
    calls = [call for message in streamed for call in message.get("tool_calls", ())]
    whole = post(client, "/api/chat", body | {"stream": False})
    assert [call["function"] for call in whole["message"]["tool_calls"]] == [call["function"] for call in calls]
    assert len({call["id"] for call in [*calls, *whole["message"]["tool_calls"]]}) == 4
    assert [call["function"]["arguments"] for call in calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert [call["function"]["index"] for call in calls] == [0, 1]
    assert (whole["done_reason"], whole["message"]["content"]) == ("stop", "")
    without_ids = [{"function": call["function"]} for call in calls]
    results = [
        {"role": "tool", "content": "rain", "tool_name": "get_weather"},
        {"role": "tool", "content": "sun"},
    ]
    history = [*ASK["messages"], {"role": "assistant", "content": "", "tool_calls": without_ids}, *results]
    post(client, "/api/chat", {"messages": history, "tools": [WEATHER], "stream": False})
    prompt = "".join(engine.requests[-1].prompt)
    order = [prompt.index(word) for word in ("Oslo", "Rome", "rain", "sun")]
    assert order == sorted(order)
    swapped = [{**results[1], "tool_call_id": calls[1]["id"]}, {**results[0], "tool_call_id": calls[0]["id"]}]
    history = [*ASK["messages"], {"role": "assistant", "content": None, "tool_calls": calls}, *swapped]
    post(client, "/api/chat", {"messages": history, "stream": False})
    assert "".join(engine.requests[-1].prompt) in prompt.replace(prompt[: prompt.index("<|user|>")], "[gMASK]<sop>")


def test_a_call_without_an_object_is_text(echo):
    client, engine = echo
    engine._replies[:] = ['get_weather\n{"city": '] * 2
    body = ASK | {"tools": [WEATHER]}
    whole = post(client, "/api/chat", body | {"stream": False})["message"]
    assert (whole["content"], "tool_calls" in whole) == ('get_weather\n{"city": ', False)
    streamed = lines(client, "/api/chat", body)
    assert "".join(line["message"]["content"] for line in streamed) == whole["content"]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_a_format_is_enforced(client, path):
    body = ASK if path == "/api/chat" else {"prompt": "Is it open?"}

    def answer(form, **more):
        reply = post(client, path, body | {"format": form, "stream": False, "options": {"num_predict": 60}} | more)
        return reply["message"]["content"] if path == "/api/chat" else reply["response"]

    assert type(json.loads(answer(SHOP))["open"]) is bool
    assert answer("json").startswith("{")
    assert answer("") == answer(None)
    refused = post(client, path, body | {"format": {"type": "string", "maxLength": -1}}, 400)
    assert "maxLength" in refused["error"]
    if path == "/api/generate":
        assert type(json.loads(answer(SHOP, raw=True))["open"]) is bool
    assert "format" in post(client, path, body | {"format": "yaml"}, 400)["error"]


def test_reasoning_is_turned_on_and_off(bare_folder):
    thinking = write_manifest(bare_folder.path, replace(bare_folder.manifest, family="z1"))
    thought = "<think>So.</think>\nYes."
    with scripted(thinking, [thought] * 6) as (url, *_), httpx2.Client(base_url=url, timeout=60) as client:
        assert client.post("/api/show", json={"model": "bare"}).json()["capabilities"][-1] == "thinking"
        for body, wanted in (({}, "So."), ({"think": True}, "So."), ({"think": False}, "")):
            whole = post(client, "/api/chat", ASK | body | {"stream": False})["message"]
            assert (whole.get("thinking", ""), whole["content"].strip()) == (wanted, "Yes.")
            streamed = lines(client, "/api/generate", {"prompt": "?"} | body)
            assert "".join(line.get("thinking", "") for line in streamed) == wanted
            assert "".join(line["response"] for line in streamed).strip() == "Yes."
        refused = post(client, "/api/chat", ASK | {"think": "high"}, 400)
        assert "'high'" in refused["error"]


def test_templates_read_whether_to_reason(bare_folder):
    template = "[gMASK]{{ enable_thinking }} {{ reasoning_effort }} {{ messages[0].content }}<|assistant|>"
    (bare_folder.path / "chat_template.jinja").write_text(template)
    thinking = write_manifest(bare_folder.path, replace(bare_folder.manifest, family="z1"))
    with scripted(thinking, ["Yes."] * 3) as (url, _, engine), httpx2.Client(base_url=url, timeout=60) as client:
        for think in (False, True, "low"):
            post(client, "/api/chat", ASK | {"think": think, "stream": False})
    shown = ["".join(request.prompt).split(" ")[:2] for request in engine.requests]
    assert shown == [["[gMASK]False", ""], ["[gMASK]True", ""], ["[gMASK]True", "low"]]


OWN = Sampling(temperature=0.7, top_k=5)
SETTINGS = {
    "nothing": ({}, {}),
    "samplers": (
        {"temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.1, "presence_penalty": 1.5},
        {"temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.1,
         "presence_penalty": 1.5},
    ),
    "frequency": ({"frequency_penalty": 0.5}, {"frequency_penalty": 0.5}),
    "no top_k": ({"top_k": -1}, {"top_k": 0}),
    "a limit": ({"num_predict": 7}, {"max_new_tokens": 7}),
    "no limit": ({"num_predict": -1}, {}),
    "until the context is full": ({"num_predict": -2}, {}),
    "a seed": ({"seed": 42}, {"seed": 42}),
    "another seed each time": ({"seed": -1}, {}),
    "stop": ({"stop": ["a", ""]}, {"stop": ("a",)}),
    "a text as stop": ({"stop": "a"}, {"stop": ("a",)}),
    "no window": ({"repeat_last_n": 0, "repeat_penalty": 1.3}, {"repetition_penalty": 1.0}),
    "the whole window": ({"repeat_last_n": -1, "repeat_penalty": 1.3}, {"repetition_penalty": 1.3}),
    "a window without a penalty": ({"repeat_last_n": 64, "repeat_penalty": 1.0}, {"repetition_penalty": 1.0}),
    "samplers that are off": ({"mirostat": 0, "tfs_z": 1, "typical_p": 1.0, "mirostat_tau": 5.0}, {}),
    "those of loading": (dict.fromkeys(IGNORED, 1), {}),
    "null": ({"temperature": None, "mirostat": None, "whatever": None}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS)
def test_options_are_sampling_settings(case):
    options, wanted = SETTINGS[case]
    assert OllamaOptions.model_validate(options).sampling(OWN) == OWN.override(logprobs=False).override(**wanted)


REJECTED = {
    "mirostat": {"options": {"mirostat": 2}},
    "tfs_z": {"options": {"tfs_z": 0.5}},
    "typical_p": {"options": {"typical_p": 0.5}},
    "repeat_last_n": {"options": {"repeat_last_n": 64, "repeat_penalty": 1.1}},
    "options.flux": {"options": {"flux": 1}},
    "options.temperature": {"options": {"temperature": "warm"}},
    "think": {"think": True},
    "shift": {"shift": True},
    "top_logprobs": {"logprobs": True, "top_logprobs": 21},
    "keep_alive": {"keep_alive": "soon"},
    "temperature": {"temperature": 0.5},
    "tool_choice": {"tool_choice": "required"},
    "response_format": {"response_format": {"type": "json_object"}},
}
OF_A_CHAT = {
    "messages[0].images": {"messages": [{"role": "user", "content": "?", "images": ["iVBORw0KGgo="]}]},
    "messages[0]": {"messages": [{"role": "robot", "content": "?"}]},
    "two tools": {"tools": [WEATHER, WEATHER]},
    "name": {"tools": [{"type": "function", "function": {}}]},
}
OF_A_PROMPT = {
    "images": {"images": ["iVBORw0KGgo="]},
    "suffix": {"suffix": "}"},
    "truncate": {"truncate": True},
    "template": {"template": "{{ .Prompt }}"},
    "context": {"context": [1, 2]},
    "system": {"raw": True, "system": "Be brief."},
    "think": {"raw": True, "think": True},
}


def test_what_is_not_supported_is_rejected_by_name(echo):
    client, engine = echo
    for path, required, cases in (
        ("/api/chat", ASK, REJECTED | OF_A_CHAT),
        ("/api/generate", {"prompt": "Hi"}, REJECTED | OF_A_PROMPT),
    ):
        for named, body in cases.items():
            refused = post(client, path, required | body, 400)
            assert (set(refused), named.partition(".")[0] in refused["error"]) == ({"error"}, True), refused
    assert engine.requests == []


IGNORED_FIELDS = {
    "truncate": False, "shift": False, "think": False, "keep_alive": "1h30m", "format": "", "options": None,
    "logprobs": False, "top_logprobs": 0, "tools": [], "suffix": "", "template": "", "context": [], "images": [],
    "system": "", "raw": False, "_debug": 1,
}  # fmt: skip


def test_fields_without_a_meaning_are_accepted(echo):
    client, _ = echo
    for keep_alive in (-1, 0.5, 300, "5m", "-1", "-1m", "0", "100ms"):
        if keep_alive != "-1":  # Go's durations have a unit
            post(client, "/api/chat", ASK | {"keep_alive": keep_alive, "stream": False})
    post(client, "/api/chat", ASK | IGNORED_FIELDS | {"stream": False})
    post(client, "/api/generate", {"prompt": "Hi", "stream": False} | IGNORED_FIELDS)
    message = {"role": "USER", "content": "Hi", "images": [], "tool_calls": None, "thinking": None}
    post(client, "/api/chat", {"messages": [message], "stream": False})


def test_log_probabilities_go_with_their_text(echo):
    client, engine = echo
    engine._replies[:] = ["Yes."] * 2
    streamed = lines(client, "/api/chat", ASK | {"logprobs": True})
    whole = post(client, "/api/chat", ASK | {"logprobs": True, "stream": False})
    tokens = [token for line in streamed for token in line.get("logprobs", ())]
    assert tokens == whole["logprobs"]
    assert [token["token"] for token in tokens] == list("Yes.")
    assert tokens[0] == {"token": "Y", "logprob": 0.0, "bytes": [89]}


def test_the_most_probable_tokens(client):
    body = ASK | {"logprobs": True, "top_logprobs": 2, "stream": False, "options": {"num_predict": 3}}
    for token in post(client, "/api/chat", body)["logprobs"]:
        first, second = token["top_logprobs"]
        assert first == {key: value for key, value in token.items() if key != "top_logprobs"}
        assert first["logprob"] >= second["logprob"]
    assert "logprobs" not in post(client, "/api/chat", body | {"logprobs": False})


def test_a_silent_stream_sends_empty_pieces(bare_folder):
    with (
        scripted(bare_folder, ["Yes."], pause=0.3, limits=Limits(heartbeat_seconds=0.1)) as (url, *_),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        pieces = [line["message"]["content"] for line in lines(client, "/api/chat", ASK)]
    assert "".join(pieces) == "Yes."
    assert pieces[:-1].count("") > 2


def test_a_model_goes_by_its_name_with_or_without_a_tag(echo):
    client, _ = echo
    (listed,) = client.get("/api/tags").json()["models"]
    assert (listed["name"], listed["model"]) == ("bare:latest", "bare:latest")
    assert len(bytes.fromhex(listed["digest"])) == 32
    for named in ({"model": "bare"}, {"model": "bare:latest"}, {"name": "bare"}, {}):
        shown = post(client, "/api/show", named)
        assert shown["capabilities"] == listed["capabilities"] == ["completion", "tools"]
        architecture = shown["model_info"]["general.architecture"]
        assert (architecture, shown["model_info"][f"{architecture}.context_length"]) == ("glm4", 4096)
        reply = post(client, "/api/chat", ASK | named | {"stream": False})
        assert reply["model"] == named.get("model", "bare")
    for path in ("/api/show", "/api/chat", "/api/generate", "/api/pull"):
        missing = post(client, path, {"model": "llama3.2"}, 404)
        assert missing["error"].startswith("model 'llama3.2' not found")


def test_models_of_a_registry_are_not_downloaded(echo):
    client, _ = echo
    assert post(client, "/api/pull", {"model": "bare", "stream": False}) == {"status": "success"}
    assert lines(client, "/api/pull", {"model": "bare:latest"}) == [{"status": "success"}]
    for method, path in (
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:00"),
    ):
        refused = client.request(method, path, json={"model": "bare"})
        assert (refused.status_code, "edge serve" in refused.json()["error"]) == (501, True)


def test_errors_have_ollamas_format(bare_folder):
    class Failing(Echo):
        def generate(self, request):
            yield next(super().generate(request))
            time.sleep(0.2)
            raise BackendError("the engine has failed", hint="try again")

    with (
        scripted(bare_folder, ["Yes."] * 2, engine=Failing, limits=Limits(body_bytes=2000)) as (url, *_),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        assert lines(client, "/api/chat", ASK)[-1] == {"error": "the engine has failed; try again"}
        for answer, status in (
            (client.post("/api/chat", json=ASK | {"stream": False}), 503),
            (client.post("/api/chat", content=b"{"), 400),
            (client.post("/api/chat", content=b" " * 3000), 413),
            (client.get("/api/chat"), 405),
            (client.post("/api/tags"), 405),
            (client.get("/api/tags", headers={"Host": "evil.example"}), 403),
        ):
            assert answer.status_code == status, answer.text
            assert type(answer.json()["error"]) is str
    with serving_ours(bare_folder.path, device="ECHO", host="0.0.0.0", api_key="secret") as (url, _):
        for path in ("/api/tags", "/api/version"):
            refused = httpx2.get(f"{url}{path}")
            assert (refused.status_code, list(refused.json())) == (401, ["error"])
            assert httpx2.get(f"{url}{path}", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_prompt_longer_than_the_context_is_rejected(client):
    refused = post(client, "/api/chat", {"messages": [{"role": "user", "content": "word " * 4000}]}, 400)
    assert "tokens" in refused["error"]


def test_a_base_model_continues_the_prompt(bare_folder):
    (bare_folder.path / "chat_template.jinja").unlink()
    base = write_manifest(bare_folder.path, replace(bare_folder.manifest, family="base"))
    with scripted(base, ["you."]) as (url, _, engine), httpx2.Client(base_url=url, timeout=60) as client:
        shown = post(client, "/api/show", {"model": "bare"})
        assert (shown["capabilities"], shown["template"]) == (["completion"], "")
        assert post(client, "/api/generate", {"prompt": "Thank ", "stream": False})["response"] == "you."
        assert "".join(engine.requests[0].prompt).endswith("Thank ")
        assert "base model" in post(client, "/api/chat", ASK, 400)["error"]
        assert "system" in post(client, "/api/generate", {"prompt": "Hi", "system": "Be brief."}, 400)["error"]
