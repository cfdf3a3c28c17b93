"""Requests that are made to cost much, or to get past the guard, against a real server."""

import http.client
import os
import random
import select
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import pytest

from edge.server.errors import ApiError
from edge.server.guard.body_budget import BodyBudget
from edge.server.guard.json_values import MAX_VALUES, count_values
from edge.server.limits import Limits
from runtime.backends.backend import Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.process.backend import SubprocessBackend
from runtime.backends.openvino.text_slices import split_batches, split_text
from runtime.errors import BackendError, PromptTooLong

from .serving import serving_ours


@pytest.fixture(scope="module")
def server(demo_folder):
    with serving_ours(demo_folder.path) as (url, dispatcher):
        assert ask(url).status_code == 200
        yield url, dispatcher


@pytest.fixture(scope="module")
def engine(demo_folder):
    loaded = OpenVINO.load(demo_folder, "CPU", Options(threads=1))
    yield loaded
    loaded.close()


def ask(url, content="hi", **fields):
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 2} | fields
    return httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=60)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://["},
        {"Origin": "http://[::1"},
        {"Origin": "//]"},
        {"Host": "[::1]evil.com"},
        {"Host": "[::1]evil.com:80"},
        {"Host": "evil.com@localhost"},
        {"Host": "localhost/evil.com"},
        {"Host": "localhost:80:80"},
    ],
    ids=str,
)
def test_malformed_names_are_refused(server, headers):
    connection = http.client.HTTPConnection(urlsplit(server[0]).netloc, timeout=10)
    connection.request("GET", "/health", headers=headers)
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]", "[::1]:8000", "LOCALHOST"])
def test_our_own_names_pass(server, host):
    connection = http.client.HTTPConnection(urlsplit(server[0]).netloc, timeout=10)
    connection.request("GET", "/health", headers={"Host": host})
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"messages":[' + b'{"role":"user"},' * MAX_VALUES + b"{}]}", 413),
        (b'{"a":[' + b"[]," * MAX_VALUES + b"[]]}", 413),
        (("[" + "0," * MAX_VALUES + "0]").encode("utf-16"), 413),
        (b"[" * 300, 400),
    ],
)
def test_values_are_counted_before_they_are_built(body, status):
    with pytest.raises(ApiError) as caught:
        count_values(body)
    assert caught.value.status == status


@pytest.mark.parametrize("text", [b",[{" * 50_000, b"\\\\" * 100_000, b'\\",' * 100_000])
def test_what_stands_in_strings_is_no_value(text):
    count_values(b'{"a": "' + text + b'"}')


def test_unfinished_strings_take_linear_time():
    start = time.perf_counter()
    count_values(b'"' + b'\\"' * 2_000_000)
    count_values(b'"' + b"\\" * 4_000_001)
    assert time.perf_counter() - start < 5


@pytest.mark.slow
def test_bodies_in_flight_are_bounded_and_given_back(server):
    url, _ = server
    body = b'{"messages": [{"role": "user", "content": 5}], "x": "' + b"a" * 2**20 + b'"}'
    for _ in range(80):  # more than fit at once
        answer = httpx2.post(f"{url}/v1/chat/completions", content=body, timeout=60)
        assert answer.status_code == 400, answer.text


def texts():
    chosen = random.Random(14)
    words = [
        "word",
        "été",
        "汉字",
        "，",
        "it's",
        "I'LL",
        " ",
        "  ",
        "\n",
        "\r\n ",
        "12345",
        "a1b2",
        "…",
        "<",
        "|user|>",
        "é",
    ]
    for _ in range(6):
        yield tuple("".join(chosen.choices(words, k=chosen.choice([1, 5, 30_000]))) for _ in range(20))


@pytest.mark.parametrize("prompt", list(texts()), ids=range(6))
def test_slices_have_the_ids_of_the_whole(engine, prompt):
    assert "".join(split_text(prompt)) == "".join(prompt)
    assert [text for batch in split_batches(prompt) for text in batch] == list(split_text(prompt))
    whole = [
        id
        for piece in prompt
        for id in engine._tokenizer.encode(piece, add_special_tokens=False).input_ids.data[0].tolist()
    ]
    assert engine.encode(prompt) == whole


@pytest.mark.parametrize(
    "prompt",
    [("a 1 " * 2_000_000,), ("<", "|user|>") * 200_000, ("汉" * 1_000_000,)],
    ids=["bytes", "tokens", "chinese"],
)
def test_a_prompt_far_too_long_is_refused_early(engine, prompt):
    start = time.perf_counter()
    with pytest.raises(PromptTooLong, match="more than") as caught:
        next(engine.generate(Request(prompt, stop_tokens=())))
    assert caught.value.cut
    assert caught.value.prompt_tokens >= caught.value.limit
    assert time.perf_counter() - start < 5


def test_typed_special_tokens_hold_nobody_up(server):
    url, _ = server
    start = time.perf_counter()
    answer = ask(url, "<|user|>" * 25_000)
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert ask(url).status_code == 200
    assert time.perf_counter() - start < 10


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows stops no process by a signal")
def test_a_stopped_engine_is_not_ready(demo_folder):
    with serving_ours(demo_folder.path) as (url, dispatcher):
        assert ask(url).status_code == 200
        (entry,) = dispatcher.pool.entries.values()
        assert isinstance(entry.model.backend, SubprocessBackend)
        os.kill(entry.model.backend.pid, signal.SIGSTOP)
        assert httpx2.get(f"{url}/ready").status_code == 503
        assert httpx2.get(f"{url}/health").status_code == 200
        start = time.monotonic()
        assert ask(url).status_code == 503
        assert time.monotonic() - start < 15
        assert ask(url).status_code == 200  # started again
        assert httpx2.get(f"{url}/ready").status_code == 200


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows stops no process by a signal")
def test_a_stopped_engine_is_closed_at_once(demo_folder):
    engine = SubprocessBackend.load(demo_folder, "CPU", Options(threads=1))
    os.kill(engine.pid, signal.SIGSTOP)
    start = time.monotonic()
    engine.close()
    assert time.monotonic() - start < 5
    with pytest.raises(BackendError, match="closed"):
        engine.encode(("a",))


def arrays(depth, name):
    schema = {"type": "array", "items": {"type": "string", "title": name}}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return {"type": "object", "properties": {name: schema}, "required": [name]}


def doubled(levels, references=2):
    """A small schema with references to references, and so on: resolved, it has references ** levels values."""
    defs = {
        f"a{level}": {
            "type": "object",
            "properties": {f"p{number}": {"$ref": f"#/$defs/a{level + 1}"} for number in range(references)},
        }
        for level in range(levels)
    }
    return {"type": "object", "properties": {"p": {"$ref": "#/$defs/a0"}}, "$defs": defs | {f"a{levels}": {}}}


def held(schema):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


HOSTILE = {
    "references that double": held(doubled(30)),
    "a chain of references": held(doubled(300, 1)),
    "references that multiply": held(doubled(5, 40)),
    "a long text": held({"type": "string", "maxLength": 60_000}),
    "depth": held(arrays(90, "a")),
    "many properties": held({"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(600)}}),
    "patterns that multiply": held({"type": "string", "pattern": "((a{900}){900}){900}"}),
    "a regex of many states": {"regex": "(.*a){200}"},
    "a deep regex": {"regex": "(a*)*" * 1000},
    "a regex of many alternatives": {"regex": "|".join(f"a{i}" for i in range(9000))},
    "a choice of many": {"guided_choice": [f"a{i}" for i in range(9000)]},
    "rules that double": {"ebnf": "\n".join(['root ::= r0\nr99 ::= "a"', *(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(99))])},  # noqa: E501
    "counts that multiply": {"grammar": 'root ::= ("a"{0,1000}){0,1000}'},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_grammar_is_enforced_or_rejected_in_time(server, body):
    url, _ = server
    start = time.monotonic()
    answer = ask(url, **body)
    assert time.monotonic() - start < 40  # two processes may start, and be ended after a CPU second
    if answer.status_code != 200:
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] in {"response_format.json_schema.schema", *body}
        assert len(answer.json()["error"]["message"]) < 300
    assert ask(url).status_code == 200


@pytest.mark.slow
def test_a_large_schema_that_is_no_program_is_taken(server):
    url, _ = server
    described = {"type": "object", "properties": {"a": {"type": "string", "description": "word " * 10_000}}}
    assert ask(url, **held(described)).status_code == 200
    refused = ask(url, **held({"type": "string", "description": "a" * 70_000})).json()["error"]
    assert (refused["param"], refused["code"]) == ("response_format.json_schema.schema", "schema_too_large")


@pytest.mark.slow
def test_schemas_that_are_tried_hold_no_turn(demo_folder):
    with serving_ours(demo_folder.path, limits=Limits(running=1, waiting=16)) as (url, dispatcher):
        assert ask(url).status_code == 200
        (entry,) = dispatcher.pool.entries.values()
        with ThreadPoolExecutor() as pool:
            hostile = [pool.submit(ask, url, regex=f"((a{{900}}){{900}}){{90{number}}}") for number in range(4)]
            while not entry.check_queue.running:
                time.sleep(0.01)
            assert ask(url).status_code == 200
            assert entry.check_queue.running
            assert all(answer.result().status_code == 400 for answer in hostile)
        assert entry.check_queue.running == entry.queue.running == 0


def test_large_bodies_share_8_mib(server):
    url, _ = server
    at = urlsplit(url)
    half = 8 * 2**20 - 1000
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {half + 10}\r\n\r\n".encode()
    large = b'{"prompt": 5, "x": "' + b"a" * 2**20 + b'"}'

    def send_most():
        connection = socket.create_connection((at.hostname, at.port), timeout=30)
        connection.sendall(head + b"a" * half)
        return connection

    def post_large():
        assert time.monotonic() < deadline
        return httpx2.post(f"{url}/v1/completions", content=large, timeout=60)

    deadline = time.monotonic() + 60
    connection = send_most()
    while (answer := post_large()).status_code != 503:
        if select.select([connection], [], [], 0)[0]:  # both were being read, and it was the one that was refused
            connection.close()
            connection = send_most()
    assert answer.json()["error"]["code"] == "busy"
    assert ask(url).status_code == 200
    connection.close()
    while post_large().status_code != 400:
        pass


def test_values_in_flight_are_bounded_and_given_back():
    in_flight = BodyBudget(nbytes=2**20, values=10_000)
    shares = [in_flight.share() for _ in range(4)]
    for share in shares[:2]:
        share.add_bytes(2**19)
        share.set_values(5_000)
    shares[2].add_bytes(2**16)  # a small one is always taken
    shares[2].set_values(2_000)
    for add, count in ((shares[3].add_bytes, 2**17), (shares[3].set_values, 3_000)):
        with pytest.raises(ApiError) as caught:
            add(count)
        assert caught.value.status == 503
    for share in shares:
        share.close()
    last = in_flight.share()
    last.add_bytes(2**20)
    last.set_values(10_000)
