"""The remote backend beyond the contract: what servers do wrong. The servers that do right are real ones."""

import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from edge.demo import CHECKPOINT
from edge.export import export_template
from runtime.backends.backend import Delta, Options, Request
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import BackendError, DeviceError, RequestError
from runtime.events import Finish
from runtime.grammar.grammar import Choice
from runtime.sampling import SamplingParams
from runtime.system.network import CERTIFICATE_VARIABLES

from .serving import SERVE, free_port, serving

httpx2 = pytest.importorskip("httpx2")
from runtime.backends.remote import client, engine  # noqa: E402
from runtime.backends.remote.engine import Remote  # noqa: E402

STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
QUESTION = "[gMASK]<sop><|user|>\nWho are you?<|assistant|>"
Reply = Callable[[BaseHTTPRequestHandler, dict], None]


@pytest.fixture(scope="module")
def folder():
    return Checkpoint.open(CHECKPOINT)


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(engine, "_WAITS", (0.05, 0.05))
    for module in (engine, client):
        monkeypatch.setattr(module, "SILENCE", 1.0)


def events(*chunks):
    """Answers with these chunks as server-sent events."""

    def reply(handler, body):
        if not body.get("stream"):
            return send(handler, 200, {"usage": {"prompt_tokens": len(body["prompt"])}})
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for chunk in chunks:
            line = chunk if isinstance(chunk, str) else json.dumps(chunk)
            handler.wfile.write(f"data: {line}\n\n".encode())
            handler.wfile.flush()

    return reply


def send(handler, status, value, **headers):
    content = json.dumps(value).encode()
    handler.send_response(status)
    for name, text in {"Content-Length": str(len(content)), "Content-Type": "application/json", **headers}.items():
        handler.send_header(name.replace("_", "-"), text)
    handler.end_headers()
    handler.wfile.write(content)


def text(said, reason=None):
    return {"choices": [{"text": said, "finish_reason": reason}]}


@contextmanager
def misbehaving(
    reply: Reply, models=("tiny",), host="127.0.0.1", certificate=None, listing=None
) -> Generator[tuple[str, list[dict]], None, None]:
    """A server that answers every completion with `reply`; gives its URL and the bodies it was sent.
    `listing` answers what asks for its models."""
    bodies: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if listing and self.path.endswith("/models"):
                listing(self)
            elif self.path.endswith("/models"):
                send(self, 200, {"data": [{"id": name, "max_model_len": 100} for name in models]})
            else:
                send(self, 404, {})

        def do_POST(self):
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            bodies[-1]["key"] = self.headers.get("Authorization")
            reply(self, bodies[-1])

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            pass  # a client that hangs up

    server = Server((host, 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        server.server_close()


def ask(folder, url, *pieces, grammar=None, **sampling):
    engine = Remote.load(folder, url, Options())
    try:
        return list(engine.generate(Request(pieces or (QUESTION,), STOPS, SamplingParams(**sampling), grammar)))
    finally:
        engine.close()


def test_what_is_sent_and_what_comes_back(folder, monkeypatch):
    monkeypatch.setenv(client.KEY, "secret")
    counted = text("bc") | {"usage": {"completion_tokens": 3}}
    usage = {"choices": [], "usage": {"completion_tokens": 4}}
    with misbehaving(events(text("a"), counted, text("", "stop"), usage, "[DONE]")) as (url, bodies):
        penalties = {"presence_penalty": 0.5, "frequency_penalty": 0.25}
        settings = {"temperature": 0.5, "top_k": 3, "seed": 1, "max_new_tokens": 9} | penalties
        parts = ask(folder, url, "<|user|>", "<", "|user|>", **settings)
    assert [(part.text, part.tokens) for part in parts[:-1]] == [("a", 1), ("bc", 2), ("", 1)]
    assert (parts[-1].reason, parts[-1].usage.completion_tokens) == ("stop", 4)
    sent = bodies[-1]
    special = folder.manifest.special_tokens
    assert sent["prompt"].count(special["<|user|>"]) == 1
    assert sorted(sent["stop_token_ids"]) == sorted(special[name] for name in STOPS)
    assert (sent["model"], sent["key"], sent["max_tokens"]) == ("tiny", "Bearer secret", 9)
    assert (sent["temperature"], sent["top_k"], sent["seed"], sent["skip_special_tokens"]) == (0.5, 3, 1, False)
    assert {name: sent[name] for name in penalties} == penalties


DEATHS = {
    "it dies": events(text("a")),
    "it says so": events(text("a"), {"error": {"message": "out of\nmemory"}}),
    "it babbles": events(text("a"), "{"),
    "it says something else": events(text("a"), {"choices": 5}),
    "it nests without end": events(text("a"), "[" * 100_000),
    "it digs": events(text("a"), "[" * 100_000 + "]" * 100_000),
    "it has no number": events(text("a"), '{"usage": NaN}'),
}


@pytest.mark.parametrize("reply", DEATHS.values(), ids=DEATHS.keys())
def test_a_server_that_fails_in_mid_reply_is_an_error(folder, reply):
    with misbehaving(reply) as (url, _):
        engine = Remote.load(folder, url, Options())
        parts = engine.generate(Request((QUESTION,), STOPS))
        assert next(parts) == Delta("a")
        with pytest.raises(BackendError, match=r"broke off in mid-reply|failed: out of memory") as caught:
            list(parts)
        engine.close()
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    with pytest.raises(BackendError, match="was closed"):
        list(engine.generate(Request((QUESTION,), STOPS)))


def test_silence_ends(folder):
    def reply(handler, body):
        events(text("a"))(handler, body)
        if body.get("stream"):
            handler.rfile.read(1)  # until the other side hangs up

    with misbehaving(reply) as (url, _), pytest.raises(BackendError, match="stopped sending"):
        ask(folder, url)


def test_a_busy_server_is_asked_again(folder):
    seen = []

    def reply(handler, body):
        seen.append(body)
        if len(seen) in (1, 3):
            return send(handler, 503, {"error": "loading"}, Retry_After="0")
        events(text("a", "length"))(handler, body)

    with misbehaving(reply) as (url, _):
        *_, finish = ask(folder, url)
    assert finish.reason == "length"
    assert len(seen) == 4


NO_URLS = [
    "http://",
    "http://host:port",
    "https://:8000",
    "http://host:99999",
    "http://[::1",
    "http://a b",
    "http://a..b",
]


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_url_is_refused(folder, url):
    with pytest.raises(DeviceError, match="is not a server's URL"):
        ask(folder, url)


NOWHERE = f"http://127.0.0.1:{free_port()}"
AROUND = {  # what stands between this machine and another, and what is said of it
    "a SOCKS proxy": ("http://host.invalid", {"ALL_PROXY": "socks5://127.0.0.1:9"}, "the proxy socks5://127.0.0.1:9"),
    "a proxy that is gone": (
        "http://host.invalid",
        {"HTTP_PROXY": NOWHERE},
        f"the proxy {NOWHERE} of HTTP_PROXY refused",
    ),
    "a proxy of no kind": (
        "http://host.invalid",
        {"HTTP_PROXY": "gopher://me:secret@p:1"},
        "gopher://p:1 of HTTP_PROXY",
    ),
    "stale certificates": ("https://127.0.0.1:9", {"SSL_CERT_FILE": "/nowhere"}, "SSL_CERT_FILE is /nowhere, which"),
    "certificates that are none": (
        "https://127.0.0.1:9",
        {"SSL_CERT_FILE": __file__},
        "which has no readable certificates",
    ),
    "a proxy that is no URL": (
        "http://host.invalid",
        {"HTTP_PROXY": "http://p:99999"},
        "http://p:99999 of HTTP_PROXY is no URL of a proxy",
    ),
    "no such name": ("http://host.invalid", {}, "the name host.invalid cannot be looked up"),
    "a key of two lines": (NOWHERE, {"EDGE_API_KEY": "a\nb"}, "EDGE_API_KEY has characters"),
}


@pytest.fixture
def no_proxies(monkeypatch):
    for scheme in ("http", "https", "all", "no"):
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            monkeypatch.delenv(name, raising=False)
    for name in CERTIFICATE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize(("url", "environment", "words"), AROUND.values(), ids=AROUND.keys())
def test_what_stands_between(folder, monkeypatch, url, environment, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DeviceError) as caught:
        ask(folder, url)
    assert words in str(caught.value)
    assert caught.value.hint
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "127.8.8.8"])
def test_no_proxy_stands_before_this_machine(folder, monkeypatch, address):
    if address == "127.8.8.8" and sys.platform == "darwin":
        pytest.skip("macOS has 127.0.0.1 alone")
    proxies = {"HTTP_PROXY": NOWHERE, "http_proxy": NOWHERE, "ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": ""}
    for name, value in (proxies | {"SSL_CERT_FILE": "/nowhere"}).items():
        monkeypatch.setenv(name, value)
    with misbehaving(events(text("a", "stop")), host="" if address == "127.8.8.8" else "127.0.0.1") as (url, _):
        *_, finish = ask(folder, url.replace("127.0.0.1", address))
    assert finish.reason == "stop"


@pytest.mark.usefixtures("no_proxies")
def test_a_host_that_goes_by_no_proxy(folder, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "host.invalid")
    with pytest.raises(DeviceError, match=r"the name host\.invalid cannot be looked up"):
        ask(folder, "http://host.invalid")


@pytest.mark.usefixtures("no_proxies")
def test_a_certificate_of_its_own_is_not_trusted(folder, tmp_path):
    if not (openssl := shutil.which("openssl")):
        pytest.skip("needs openssl to make one")
    file = tmp_path / "own.pem"
    wanted = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {file} -out {tmp_path / 'cert'}"
    subprocess.run([openssl, *wanted.split()], check=True, capture_output=True)
    file.write_text(file.read_text() + (tmp_path / "cert").read_text())
    with misbehaving(events(), certificate=file) as (url, _), pytest.raises(DeviceError, match="not trusted") as caught:
        ask(folder, url)
    assert "SSL_CERT_FILE" in caught.value.hint


@pytest.mark.usefixtures("no_proxies")
def test_a_server_without_tls(folder):
    with misbehaving(events()) as (url, _), pytest.raises(DeviceError, match="does not speak TLS") as caught:
        ask(folder, url.replace("http:", "https:"))
    assert "http://" in caught.value.hint


REFUSALS = {
    "no server": (None, "no server answers"),
    "a refusal": (lambda handler, body: send(handler, 400, {"detail": "no"}), r"completes no text: no \(400\)"),
    "no JSON": (lambda handler, body: send(handler, 200, ["a"]), "no JSON object"),
    "always busy": (lambda handler, body: send(handler, 503, {}), r"completes no text: .*503"),
    "a key": (lambda handler, body: send(handler, 401, {}), "requires an API key"),
    "a proxy's password": (lambda handler, body: send(handler, 407, {}), "requires a user name and password"),
    "a portal": (
        lambda handler, body: send(handler, 302, {}, Location="http://login/"),
        "it redirects to http://login/",
    ),
    "a web page": (lambda handler, body: send(handler, 200, "<html>", Content_Type="text/html"), "with a web page"),
    "another model": (
        lambda handler, body: send(handler, 200, {"usage": {"prompt_tokens": 99}}),
        "reads 99 tokens where this model has",
    ),
}


@pytest.mark.parametrize(("reply", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_server_that_cannot_be_used_is_refused(folder, reply, words):
    if reply is None:
        with pytest.raises(DeviceError, match=words):
            ask(folder, f"http://127.0.0.1:{free_port()}")
        return
    with misbehaving(reply) as (url, _), pytest.raises(DeviceError, match=words) as caught:
        ask(folder, url)
    assert caught.value.hint


def test_of_several_models_one_is_named(folder):
    with misbehaving(events(text("a", "stop")), models=("one", "two")) as (url, bodies):
        with pytest.raises(DeviceError, match="several models: one, two") as caught:
            ask(folder, url)
        assert f"{url}#" in caught.value.hint
        ask(folder, f"{url}/v1/#two")
        assert bodies[-1]["model"] == "two"
    with misbehaving(events(text("a", "stop")), models=("one", "org/Checkpoint")) as (url, bodies):
        ask(folder, url)
        assert bodies[-1]["model"] == "org/Checkpoint"


def test_only_vllm_holds_a_grammar(folder):
    with (
        misbehaving(events(text("a", "stop"))) as (url, _),
        pytest.raises(RequestError, match="cannot enforce a grammar"),
    ):
        ask(folder, url, grammar=Choice(("a",)))


@pytest.mark.slow
def test_transformers_serve_calls_tools_by_the_exported_template(tmp_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("openai")
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINT, checkpoint)
    export_template(checkpoint)
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    with serving([*SERVE, str(checkpoint), "--device", "cpu"], tmp_path / "log") as url:
        body = {"messages": [{"role": "user", "content": "What is the weather in Oslo?"}], "tools": [tool]}
        answer = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=600).json()
        typed = ("[gMASK]<sop><|user|>\n<", "|user|> is text<|assistant|>")
        described = Checkpoint.open(checkpoint)
        with pytest.raises(RequestError, match="special tokens as text"):
            ask(described, url, *typed)
        *deltas, finish = ask(described, url, max_new_tokens=40)
    message = answer["choices"][0]["message"]
    if message.get("tool_calls"):  # a small model need not call; what it says must be parsed
        (call,) = message["tool_calls"]
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
        assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert "<|" not in (message.get("content") or "")
    assert isinstance(finish, Finish)
    assert sum(delta.tokens for delta in deltas) == finish.usage.completion_tokens
