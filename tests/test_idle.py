"""A model that nothing uses gives its memory back, and is loaded again: with the real engine, in its own process."""

import time
from datetime import UTC, datetime
from threading import Event, Thread

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from runtime.model import Model  # noqa: E402
from runtime.progress import Progress  # noqa: E402

from .serving import serving_ours  # noqa: E402
from .test_server import ASK, CHAT, LONG, until  # noqa: E402

IDLE = 1.0  # seconds


def engines():
    import psutil

    return {child.pid for child in psutil.Process().children(recursive=True) if child.status() != "zombie"}


@pytest.mark.slow
def test_an_idle_model_is_unloaded_and_comes_back(demo_folder, caplog):
    caplog.set_level("INFO", "edge.server")
    before = engines()
    with (
        serving_ours(demo_folder.path, idle_seconds=IDLE) as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        (entry,) = dispatcher.pool.entries.values()

        def state():
            return client.get("/health").json()["models"]

        assert state() == "unloaded"
        assert client.get("/ready").status_code == 503  # none has ever been loaded
        said = [client.post(CHAT, json=ASK | {"temperature": 0, "max_tokens": 8}).json()]
        assert client.get("/ready").status_code == 200
        until(lambda: state() == "unloaded")
        assert client.get("/v1/models").json()["data"][0]["state"] == "unloaded"
        until(lambda: not engines() - before)  # the memory is the system's again
        assert client.get("/ready").json() == {"status": "ok", "models": "unloaded"}
        assert f'edge_model_loaded{{model="{entry.name}"}} 0.0' in client.get("/metrics").text
        said.append(client.post(CHAT, json=ASK | {"temperature": 0, "max_tokens": 8}).json())
        assert said[0]["choices"] == said[1]["choices"]
        until(lambda: entry.idle)
    log = [record.getMessage() for record in caplog.records]
    assert log.count(f"{entry.name} is being loaded") == 2
    assert f"{entry.name} is unloaded: nothing has used it for 1 s" in log


@pytest.mark.slow
def test_a_model_in_use_is_never_unloaded(demo_folder):
    """A reply that takes longer than the idle time, and a tokenization that does."""
    with (
        serving_ours(demo_folder.path, idle_seconds=0.2) as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        (entry,) = dispatcher.pool.entries.values()
        client.post("/tokenize", json={"prompt": "Hello"})
        encode, loaded = entry.model.backend.encode, entry.model

        def slow_encode(prompt):
            time.sleep(1.0)
            assert entry.model is loaded
            return encode(prompt)

        entry.model.backend.encode = slow_encode
        assert client.post("/tokenize", json={"prompt": "Hello"}).json()["count"] >= 1
        with client.stream("POST", CHAT, json=LONG | {"stream": True}) as stream:
            lines = stream.iter_lines()
            next(lines)
            streamed = entry.model
            started = time.monotonic()
            while time.monotonic() - started < 1.0:  # the client reads slowly; the reply goes on
                next(lines)
                assert entry.model is streamed is not None
        until(lambda: entry.model is None)


def test_it_is_loading_while_it_loads(bare_folder, monkeypatch):
    """Requests wait for it, and everything that reports tells so."""

    go_on = Event()

    class SlowModel(Model):
        def __init__(self, *arguments, **settings):
            settings["progress"](Progress("load", done=1, total=4))
            go_on.wait(30)
            super().__init__(*arguments, **settings)

    monkeypatch.setattr("edge.server.pool.model_pool.Model", SlowModel)
    with (
        serving_ours(bare_folder.path, device="ECHO") as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        (entry,) = dispatcher.pool.entries.values()
        answers = []
        asking = Thread(target=lambda: answers.append(httpx2.post(f"{url}{CHAT}", json=ASK, timeout=60)))
        asking.start()
        until(lambda: entry.progress is not None)
        assert client.get("/health").json() == {"status": "ok", "models": "loading"}
        assert client.get("/ready").status_code == 503
        (listed,) = client.get("/v1/models").json()["data"]
        assert (listed["loaded"], listed["state"]) == (False, "loading")
        assert client.get("/chat").json()["models"][0]["progress"] == 0.25
        assert f'edge_model_loading{{model="{entry.name}"}} 1.0' in client.get("/metrics").text
        go_on.set()
        asking.join()
        assert answers[0].status_code == 200
        assert client.get("/v1/models").json()["data"][0]["state"] == "loaded"
        assert client.get("/chat").json()["models"][0]["progress"] is None


def test_by_default_it_stays(bare_folder):
    with serving_ours(bare_folder.path, device="ECHO") as (url, dispatcher):
        (entry,) = dispatcher.pool.entries.values()
        httpx2.post(f"{url}{CHAT}", json=ASK, timeout=60)
        time.sleep(0.5)
        assert entry.model is not None


def test_a_client_of_ollamas_api_chooses_how_long_a_model_stays(bare_folder):
    ask = {**ASK, "stream": False}
    with (
        serving_ours(bare_folder.path, device="ECHO", idle_seconds=600) as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        (entry,) = dispatcher.pool.entries.values()

        def chat(**body):
            answer = client.post("/api/chat", json=ask | body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        def seconds_left():
            (loaded,) = client.get("/api/ps").json()["models"]
            return (datetime.fromisoformat(loaded["expires_at"]) - datetime.now(UTC)).total_seconds()

        chat()
        assert 590 < seconds_left() <= 600  # the server's own
        chat(keep_alive="1h30m")
        assert 5390 < seconds_left() <= 5400
        loaded = entry.model
        chat(keep_alive=0)
        assert entry.model in (loaded, None)  # not loaded again for the request that lets it go
        until(lambda: entry.model is None)
        assert client.get("/api/ps").json() == {"models": []}
        chat(keep_alive="300ms")
        chat(keep_alive=-1)
        time.sleep(0.6)
        assert entry.model is not None
        assert seconds_left() > 1e9
        unloaded = client.post("/api/generate", json={"keep_alive": 0, "stream": False}).json()
        assert (unloaded["done_reason"], unloaded["response"]) == ("unload", "")
        until(lambda: entry.model is None)
        loaded = client.post("/api/generate", json={}).json()
        assert loaded["done_reason"] == "load"
        assert entry.model is not None


def test_a_request_that_lets_the_model_go_uses_the_loaded_one(bare_folder, caplog):
    caplog.set_level("INFO", "edge.server")
    with (
        serving_ours(bare_folder.path, device="ECHO") as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        (entry,) = dispatcher.pool.entries.values()
        client.post("/api/chat", json=ASK | {"stream": False})
        client.post("/api/chat", json=ASK | {"stream": False, "keep_alive": 0})
        until(lambda: entry.model is None)
    assert [record.getMessage() for record in caplog.records].count(f"{entry.name} is being loaded") == 1
