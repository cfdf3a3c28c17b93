"""Servers that answer with anything: a line of ours, or a reply of at most as many tokens as were asked for."""

import gzip
import json
import random
from contextlib import suppress

import pytest

from edge.demo import CHECKPOINT
from runtime.backends.backend import Delta
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import BackendError, DeviceError, EdgeError
from runtime.events import Finish

pytest.importorskip("httpx2")
from runtime.backends.remote import client, engine

from .test_remote import ask, events, misbehaving, send, text

DEEP = "[" * 100_000
ODD = [5, -1, True, 1.5, "big", [], {}, [[]], {"a": 1}, None, "\x1b[31m", 10**300, "x" * 5000]


@pytest.fixture(scope="module")
def folder():
    return Checkpoint.open(CHECKPOINT)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(engine, "_WAITS", (0.01,))
    for module in (engine, client):
        monkeypatch.setattr(module, "SILENCE", 1.0)
    monkeypatch.setattr(engine, "_STREAM", 2**16)
    monkeypatch.setattr(engine, "_WHOLE", 2**20)


def raw(content, kind="application/json", status=200, **headers):
    """Answers everything that asks with these bytes."""

    def reply(handler, body):
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return reply


def endless(piece):
    """A stream that never ends by itself."""

    def reply(handler, body):
        events()(handler, body)
        with suppress(OSError):
            while body.get("stream"):
                handler.wfile.write(piece)

    return reply


def event(value):
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@pytest.mark.parametrize(
    "piece",
    [
        event(text("a")),
        event(text("a") | {"usage": {"completion_tokens": 0}}),
        event(text("")),
        event({"usage": {"completion_tokens": 10**9}}),
        event(text("a" * 60_000)),
        b": nothing\n\n",
        b"data: x",
    ],
    ids=["text", "uncounted", "empty", "many", "long", "comments", "one line"],
)
def test_an_endless_reply_ends(folder, piece):
    with misbehaving(endless(piece)) as (url, _):
        try:
            got = ask(folder, url, max_new_tokens=3)
        except BackendError:
            return
        assert isinstance(got[-1], Finish)
        assert got[-1].reason == "length"
        assert got[-1].usage.completion_tokens == 3
        assert sum(len(one.text) for one in got if isinstance(one, Delta)) <= 2**17


def mutants(seed=7, count=120):
    """Events of which one value is another, in some place."""
    chance = random.Random(seed)
    for _ in range(count):
        chunk = text("a", "stop") | {"usage": {"completion_tokens": 1}}
        place = chance.choice([chunk, chunk["choices"][0], chunk["usage"]])
        place[chance.choice(list(place))] = chance.choice(ODD)
        yield chance.choice([chunk, chunk, chance.choice(ODD)])


@pytest.mark.slow
def test_events_of_any_shape_are_text_or_an_error(folder):
    chunks = iter(list(mutants()))

    def reply(handler, body):
        if not body.get("stream"):
            return events()(handler, body)
        return events(next(chunks))(handler, body)

    errors = []
    with misbehaving(reply) as (url, _):
        for _ in range(40):
            try:
                got = ask(folder, url, max_new_tokens=9)
            except EdgeError as exc:
                errors.append(str(exc))
            else:
                assert all(isinstance(one.text, str) for one in got if isinstance(one, Delta))
    assert len(errors) > 10
    assert all(len(error) < 500 and "\x1b" not in error for error in errors)


@pytest.mark.parametrize("data", [DEEP, '{"choices": ' + DEEP, "\x00", "5", '{"choices": [{"text": 5}]}'])
def test_deep_or_wrong_events_are_one_line(folder, data):
    with misbehaving(events(data)) as (url, _), pytest.raises(BackendError) as caught:
        ask(folder, url)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("length", ["big", -1, 1.5, [], {}, True, "\x1b[2J", 10**300], ids=str)
def test_a_context_of_another_type_is_refused_or_bounded(folder, length):
    def models(handler):
        send(handler, 200, {"data": [{"id": "tiny", "max_model_len": length}]})

    with misbehaving(events(text("a", "stop")), listing=models) as (url, _):
        if type(length) is int and length > 0:
            assert ask(folder, url)
            return
        with pytest.raises(DeviceError, match="max_model_len is") as caught:
            ask(folder, url)
        assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        raw(DEEP.encode()),
        raw(b'{"usage": 5}'),
        raw(b'{"usage": {"prompt_tokens": "\x1b[31m' + b"x" * 10_000 + b'"}}'),
        raw(b'{"error": {"message": "' + b"\\u001b[31mx" * 10_000 + b'"}}', status=400),
        raw(b"x" * 2**21),
        raw(gzip.compress(bytes(2**21)), Content_Encoding="gzip"),
    ],
    ids=["deep", "usage", "tokens", "error", "large", "bomb"],
)
def test_answers_at_the_first_question(folder, reply):
    with misbehaving(reply) as (url, _), pytest.raises(EdgeError) as caught:
        ask(folder, url)
    assert caught.value.hint
    assert len(str(caught.value)) < 500
    assert "\x1b" not in str(caught.value)
