"""Streams that wait: their headers come at once, heartbeats follow, and errors find their way into the stream."""

import json
import re
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.server.limits import Limits  # noqa: E402
from runtime.tools import to_tools  # noqa: E402

from .serving import scripted  # noqa: E402
from .test_server import hang_up, until  # noqa: E402

MESSAGES = [{"role": "user", "content": "Who are you?"}]
LIMITS = Limits(running=1, waiting=1, grace_seconds=0.05, heartbeat_seconds=0.1)
# Each path's body, and the error in the last event's data.
STREAMS = {
    "/v1/chat/completions": ({"messages": MESSAGES, "stream": True}, lambda last: last["error"]),
    "/v1/completions": ({"prompt": "Hi", "stream": True}, lambda last: last["error"]),
    "/v1/responses": ({"input": "Hi", "stream": True}, lambda last: last["response"]["error"]),
    "/chat": ({"messages": MESSAGES}, lambda last: last),
    "/v1/messages": ({"messages": MESSAGES, "max_tokens": 99, "stream": True}, lambda last: last["error"]),
    "/api/chat": ({"messages": MESSAGES, "model": "bare"}, lambda last: {"message": last["error"]}),
}
# What a stream says while its request waits: ": waiting" in most.
HEARTBEATS = {"/v1/messages": ["event: ping", 'data: {"type":"ping"}', ""], "/api/chat": []}


def is_data(line):
    return line.startswith(("data: {", "{"))


def read_data(line):
    return json.loads(line.removeprefix("data: "))


@contextmanager
def occupied(folder, limits=LIMITS, **settings):
    """A server whose only turn is taken, until `release` is called."""
    with scripted(folder, ["\nHi there."] * 9, limits=limits, **settings) as (url, dispatcher, engine):
        (entry,) = dispatcher.pool.entries.values()
        entry.queue.running = 1
        with httpx2.Client(base_url=url, timeout=30) as client:
            yield client, entry, lambda: dispatcher.call(entry.queue.release, 1), engine


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_begins_while_its_request_waits(bare_folder, path):
    body, _ = STREAMS[path]
    with occupied(bare_folder) as (client, entry, release, _), client.stream("POST", path, json=body) as response:
        assert (response.status_code, entry.queue.waiting) == (200, 1)
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        lines = response.iter_lines()
        for line in HEARTBEATS.get(path, [": waiting", ""]) * 3:
            assert next(lines) == line
        assert entry.queue.waiting == 1
        release()
        rest = list(map(read_data, filter(is_data, lines)))
        assert len(rest) > 1
        assert not any(line.get("error") for line in rest)
        until(lambda: entry.queue.running == 0)


@pytest.mark.parametrize("path", STREAMS)
def test_an_error_after_the_headers_is_an_event(bare_folder, path):
    body, error = STREAMS[path]
    limits = Limits(running=1, waiting=1, grace_seconds=0.05, heartbeat_seconds=0.1, request_seconds=0.3)
    with occupied(bare_folder, limits) as (client, entry, _, _):
        response = client.post(path, json=body)
        last = list(filter(is_data, response.text.splitlines()))[-1]
        assert response.status_code == 200
        assert error(read_data(last))["message"].startswith("the request timed out")
        assert entry.queue.waiting == 0


@pytest.mark.parametrize("path", STREAMS)
def test_a_quick_error_keeps_its_status(bare_folder, path):
    body, _ = STREAMS[path]
    with occupied(bare_folder, Limits(running=1, waiting=0)) as (client, entry, release, engine):
        full = client.post(path, json=body)
        assert (full.status_code, "the queue is full" in full.text) == (429, True)
        release()
        until(lambda: entry.queue.running == 0)
        engine.max_prompt_tokens = 2
        long = client.post(path, json=body)
        assert long.status_code == (200 if path == "/v1/responses" else 400)  # an event there, as OpenAI has it
        assert re.search("maximum context|too long", long.text)
        assert client.post(path, json=body | {"temperature": "hot"}).status_code == 400


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_that_waits_and_is_left_leaves_the_queue(bare_folder, path):
    body, _ = STREAMS[path]
    with occupied(bare_folder) as (client, entry, release, engine):
        with client.stream("POST", path, json=body) as response:
            lines = response.iter_lines()
            assert path == "/api/chat" or next(lines)
            assert entry.queue.waiting == 1
        until(lambda: entry.queue.waiting == 0)
        hang_up(str(client.base_url), body, lambda: entry.queue.waiting == 1, path)
        until(lambda: entry.queue.waiting == 0)
        release()
        until(lambda: entry.queue.running == 0)
        assert not engine.requests


def slow() -> str:
    """A tool that takes a while."""
    time.sleep(0.5)
    return "done"


def test_a_stream_is_never_silent_for_long(bare_folder):
    """A tool of the page runs between two events."""
    tools = tuple(to_tools([slow]).values())
    with (
        scripted(bare_folder, ["slow\n{}", "\nGood."], limits=LIMITS, tools=tools) as (url, *_),
        httpx2.stream("POST", f"{url}/chat", json={"messages": MESSAGES}, timeout=30) as response,
    ):
        lines = list(response.iter_lines())
    assert ": waiting" in lines[lines.index("event: tool_call") : lines.index("event: tool_result")]
