"""A client that hangs up gives its turn back, whatever its request waits for: the engine, a trial, others, a tool."""

import json
import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from threading import Event

import psutil
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.server.limits import Limits  # noqa: E402
from runtime.tools import to_tools  # noqa: E402

from .serving import scripted, serving_ours  # noqa: E402
from .test_server import ASK, CHAT, LONG, hang_up, until  # noqa: E402

SOON = 5  # seconds
LET_GO = Event()

stops = pytest.mark.skipif(sys.platform == "win32", reason="Windows stops no process by a signal")


@pytest.fixture(scope="module")
def served(demo_folder):
    with serving_ours(demo_folder.path, limits=Limits(running=1, waiting=4)) as (url, dispatcher):
        assert httpx2.post(f"{url}{CHAT}", json=ASK | {"max_tokens": 1}, timeout=60).status_code == 200
        yield url, next(iter(dispatcher.pool.entries.values()))


@contextmanager
def stopped(pid):
    """The process stands still, so that what it is asked for lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def comes_back(url, entry, body, when=lambda: True, path=CHAT):
    """Hang up once the request has its turn and `when` is true."""
    hang_up(url, body, lambda: entry.queue.running == 1 and when(), path)
    until(lambda: entry.queue.running == 0, SOON)


def answers(url):
    return httpx2.post(f"{url}{CHAT}", json=ASK | {"max_tokens": 1}, timeout=60).status_code == 200


@stops
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("prompt", ["Who are you?", "1 2 3 " * 600], ids=["short", "long"])
def test_while_the_prompt_waits_to_be_tokenised_and_read(served, prompt, streamed):
    url, entry = served
    with stopped(entry.model.backend.pid):
        comes_back(url, entry, {"messages": [{"role": "user", "content": prompt}], "stream": streamed})
    assert answers(url)


def test_while_a_long_prompt_is_read(served):
    url, entry = served
    for pause in (0.0, 0.02, 0.1):
        body = {"messages": [{"role": "user", "content": f"{pause} " + "1 2 3 4 5 6 7 8 " * 110}], "max_tokens": 400}
        comes_back(url, entry, body, lambda pause=pause: time.sleep(pause) or True)
    assert answers(url)


@pytest.mark.slow
@stops
def test_while_its_grammar_is_tried(served):
    url, entry = served
    pattern = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string", "pattern": "[a-f]{7}"}}}
    assert httpx2.post(f"{url}{CHAT}", json=ASK | {"response_format": pattern}, timeout=60).status_code == 200
    trial = entry.model.backend.admission.quick.child
    pattern["json_schema"]["schema"]["pattern"] = "[a-f]{8}"
    with stopped(trial.pid):
        hang_up(
            url,
            ASK | {"response_format": pattern},
            lambda: entry.check_queue.running and entry.model.backend.admission.pending,
        )
        until(lambda: entry.check_queue.running == 0, SOON)
        assert entry.queue.running == 0
    assert httpx2.post(f"{url}{CHAT}", json=ASK | {"response_format": pattern}, timeout=60).status_code == 200


@pytest.mark.slow
def test_while_it_waits_for_a_turn(served):
    url, entry = served
    with (
        httpx2.Client(base_url=url, timeout=60) as client,
        client.stream("POST", CHAT, json=LONG | {"stream": True}) as first,
    ):
        lines = first.iter_lines()
        next(lines)
        hang_up(url, LONG, lambda: entry.queue.waiting == 1)
        until(lambda: entry.queue.waiting == 0, SOON)
        assert entry.queue.running == 1
    until(lambda: entry.queue.running == 0, SOON)
    assert answers(url)


def stuck() -> str:
    """A tool that does not come back."""
    LET_GO.wait(60)
    return "late"


@pytest.mark.parametrize("how", ["hung up", "deadline"])
def test_while_a_tool_runs(bare_folder, how):
    LET_GO.clear()
    limits = Limits(running=1, request_seconds=0.5 if how == "deadline" else 60, tool_seconds=60)
    replies = ["stuck\n{}", "\nGood."]
    tools = tuple(to_tools([stuck]).values())
    try:
        with scripted(bare_folder, replies, limits=limits, tools=tools) as (url, dispatcher, engine):
            (entry,) = dispatcher.pool.entries.values()
            if how == "deadline":
                answer = httpx2.post(f"{url}/chat", json=ASK, timeout=30).text
                assert json.loads(answer.rpartition("data: ")[2])["reason"] == "length"
                until(lambda: entry.queue.running == 0, SOON)
            else:
                comes_back(url, entry, ASK, lambda: engine.requests and time.sleep(0.2) is None, "/chat")
            assert httpx2.post(f"{url}/chat", json=ASK, timeout=30).text.count("event: text") > 0
    finally:
        LET_GO.set()


@pytest.mark.slow
def test_while_its_model_is_loaded(demo_folder, tmp_path):
    """The model stays, and is not loaded again."""
    second = shutil.copytree(demo_folder.path, tmp_path / "second")
    before = set(psutil.Process().children())
    with serving_ours(demo_folder.path, second, limits=Limits(running=1)) as (url, dispatcher):
        entry = dispatcher.pool.entries["second"]
        comes_back(url, entry, ASK | {"model": "second"}, lambda: dispatcher.pool.loading)
        body = ASK | {"model": "second", "max_tokens": 1}
        assert httpx2.post(f"{url}{CHAT}", json=body, timeout=60).status_code == 200
        assert [one.pid for one in set(psutil.Process().children()) - before] == [entry.model.backend.pid]
