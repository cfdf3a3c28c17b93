"""Applications that speak Ollama's API: the calls that their public sources make, in their order, and what they read.

Home Assistant's integration, Copilot in VS Code, Open WebUI, Zed, Continue, LangChain, LlamaIndex, Page Assist, and
Ollama's own command. The clients themselves are in tests/test_ollama_clients.py.
"""

import json
import re
from datetime import datetime

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from .serving import scripted  # noqa: E402

CALL = 'HassTurnOn\n{"name": "lamp"}'
TURN_ON = {
    "type": "function",
    "function": {
        "name": "HassTurnOn",
        "description": "Turns on a device",
        "parameters": {"type": "object", "properties": {"name": {"type": "string"}}, "required": []},
    },
}
DETAILS = {"format", "family", "families", "parameter_size", "quantization_level"}


class App:
    """An application's view of the server, and the fake engine behind it."""

    def __init__(self, client, engine):
        self.client = client
        self.engine = engine

    def get(self, path):
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path, body):
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stream(self, path, body):
        with self.client.stream("POST", path, json=body) as answer:
            assert answer.headers["content-type"] == "application/x-ndjson"
            return [json.loads(line) for line in answer.iter_lines()]

    def prompt(self):
        return "".join(self.engine.requests[-1].prompt)


@pytest.fixture
def app(bare_folder):
    with scripted(bare_folder, []) as (url, _, engine), httpx2.Client(base_url=url, timeout=60) as client:
        yield App(client, engine)


def says(lines):
    return "".join(line["message"]["content"] for line in lines)


def calls_in(lines):
    return [call for line in lines for call in line["message"].get("tool_calls") or ()]


def test_home_assistant(app):
    names = {model["model"] for model in app.get("/api/tags")["models"]}
    assert names == {"bare:latest"}
    assert [model["name"] for model in app.get("/api/ps")["models"]] == ["bare:latest"]
    app.engine._replies[:] = [CALL, "It is on."]
    messages = [{"role": "system", "content": "You control a home."}, {"role": "user", "content": "Light, please."}]
    body = {"model": "bare:latest", "tools": [TURN_ON], "stream": True, "keep_alive": -1, "think": False}
    body["options"] = {"num_ctx": 8192}
    (call,) = calls_in(app.stream("/api/chat", body | {"messages": messages}))
    function = {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
    assert function == {"name": "HassTurnOn", "arguments": {"name": "lamp"}}
    messages.append({"role": "assistant", "content": "", "tool_calls": [{"function": function}]})
    messages.append({"role": "tool", "content": '{"data": {"success": true}, "error": null}'})
    assert says(app.stream("/api/chat", body | {"messages": messages})) == "It is on."
    assert "<|observation|>\n" + messages[-1]["content"] in app.prompt()


def test_copilot_in_vs_code(app):
    version = [int(part) for part in app.get("/api/version")["version"].split(".")]
    assert version >= [0, 6, 4]
    (model,) = app.get("/api/tags")["models"]
    shown = app.post("/api/show", {"model": model["model"]})
    info = shown["model_info"]
    assert info[f"{info['general.architecture']}.context_length"] == 4096
    assert info["general.basename"]
    assert "tools" in shown["capabilities"]


def test_open_webui(app):
    assert app.get("/api/version")["version"]
    (model,) = app.get("/api/tags")["models"]
    assert ":" in model["model"]
    (loaded,) = app.get("/api/ps")["models"]
    assert loaded["name"] == model["name"]
    assert datetime.fromisoformat(loaded["expires_at"]).timestamp() > 0
    body = {"model": "bare:latest", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    body |= {"options": {"temperature": 0.7, "num_ctx": 2048, "stop": ["###"]}, "keep_alive": "5m", "format": ""}
    *_, last = app.stream("/api/chat", body)
    assert last["done"]
    assert last["eval_count"] / last["eval_duration"] > 0
    title = app.post("/api/generate", {"model": "bare:latest", "prompt": "Title?", "stream": False, "raw": False})
    assert title["response"]


def test_zed(app):
    (model,) = app.get("/api/tags")["models"]
    assert {"name", "modified_at", "size", "digest", "details"} <= set(model)
    assert set(model["details"]) >= DETAILS
    assert "tools" in app.post("/api/show", {"model": model["name"]})["capabilities"]
    app.engine._replies[:] = [CALL, "Done."]
    options = {"num_ctx": 4096, "num_predict": None, "stop": [], "temperature": 1.0, "top_p": None}
    body = {"model": model["name"], "stream": True, "keep_alive": -1, "options": options, "tools": [TURN_ON]}
    body["think"] = None
    messages = [{"role": "user", "content": "Light!"}]
    lines = app.stream("/api/chat", body | {"messages": messages})
    assert all(type(line["message"]["content"]) is str for line in lines)
    (call,) = calls_in(lines)
    answer = {"role": "assistant", "content": "", "thinking": None, "tool_calls": [{"function": call["function"]}]}
    messages += [answer, {"role": "tool", "tool_name": "HassTurnOn", "content": "on"}]
    assert says(app.stream("/api/chat", body | {"messages": messages, "tools": []})) == "Done."


def test_continue(app):
    shown = app.post("/api/show", {"name": "bare"})
    settings = dict(re.match(r'^(\S+)\s+((?:".*")|\S+)$', line).groups() for line in shown["parameters"].split("\n"))
    assert settings["num_ctx"] == "4096"
    assert ".Suffix" not in shown["template"]
    options = {"temperature": 0.5, "num_predict": 60, "num_ctx": 4096, "stop": ["</s>"], "use_mmap": True}
    body = {"model": "bare", "options": options, "keep_alive": 1800}
    app.engine._replies[:] = [CALL, "Hello."]
    asked = [{"role": "user", "content": "Light!"}]
    whole = app.post("/api/chat", body | {"messages": asked, "tools": [TURN_ON], "stream": False})
    assert json.dumps(whole["message"]["tool_calls"][0]["function"]["arguments"]) == '{"name": "lamp"}'
    lines = app.stream("/api/generate", body | {"prompt": "<|user|>\nHi<|assistant|>", "raw": True})
    assert "".join(line["response"] for line in lines) == "Hello."


def test_langchain_and_llamaindex(app):
    info = app.post("/api/show", {"model": "bare"})["model_info"]
    assert next(value for key, value in info.items() if "context_length" in key) == 4096
    app.engine._replies[:] = [CALL, "Done."]
    human = {"role": "user", "content": "Light!", "images": []}
    lines = app.stream("/api/chat", {"model": "bare", "messages": [human], "tools": [TURN_ON], "stream": True})
    (call,) = calls_in(lines)
    assert (lines[-1]["done_reason"], lines[-1]["model"]) == ("stop", "bare")
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    sent = {"type": "function", "id": "3f0c", "function": {"name": name, "arguments": arguments}}
    history = [
        human,
        {"role": "assistant", "content": "", "images": [], "tool_calls": [sent]},
        {"role": "tool", "content": "on", "images": [], "tool_call_id": "3f0c"},
    ]
    assert says(app.stream("/api/chat", {"model": "bare", "messages": history, "stream": True})) == "Done."


def test_page_assist_and_ollamas_command(app):
    assert app.client.get("/").status_code == 200
    for path in ("/", "/api/tags", "/api/version"):
        assert app.client.head(path).status_code == 200
    shown = app.post("/api/show", {"model": "bare:latest", "verbose": False, "system": "", "options": None})
    assert set(shown["details"]) >= DETAILS
    loaded = app.post("/api/generate", {"model": "bare:latest", "prompt": "", "keep_alive": "5m", "options": {}})
    assert loaded["done_reason"] == "load"
    body = {"model": "bare:latest", "messages": [{"role": "user", "content": "Hi"}], "options": {}, "format": None}
    assert app.stream("/api/chat", body)[-1]["total_duration"] > 0
