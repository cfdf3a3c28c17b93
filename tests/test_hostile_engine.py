"""A server whose engine, or the process that tries grammars, is stopped, dead or busy: it ends when it is told to."""

import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psutil
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from runtime.backends.openvino.grammar import admission  # noqa: E402
from runtime.backends.openvino.process import client  # noqa: E402

from .test_serve import program, serving  # noqa: E402
from .test_server import CHAT, LONG, until  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

GRACE = 2  # seconds, in place of ten
SERVE = f"import edge.server.run as run; run.GRACE_SECONDS = {GRACE}; from edge.cli import main; main()"


def serve(folders, log, prefix=()):
    """`edge serve` with a short grace: its URL, and the process."""
    command = [*prefix, sys.executable, "-c", SERVE, "serve", *map(str, folders), "--device", "CPU"]
    return serving(command, log)


WORKERS = {"engine": client._ENTRY, "grammar": admission._ENTRY}


def workers(process, kind):
    """The ids of its processes of that kind."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children()
        return [child.pid for child in children if any(WORKERS[kind] in part for part in child.cmdline())]
    return []


@contextmanager
def asked(url, number, **fields):
    """Requests that run, each with its answer."""
    with ThreadPoolExecutor(number) as pool:
        yield [pool.submit(httpx2.post, f"{url}{CHAT}", json=LONG | fields, timeout=60) for _ in range(number)]


@pytest.mark.slow
def test_a_stopped_engine_is_told_by_its_name(demo_folder, tmp_path):
    with serve([demo_folder.path], tmp_path / "log") as (url, process), asked(url, 4) as running:
        until(lambda: 'requests_running{model="model"} 4.0' in httpx2.get(f"{url}/metrics").text)
        (engine,) = workers(process, "engine")
        os.kill(engine, signal.SIGSTOP)
        start = time.monotonic()
        until(lambda: httpx2.get(f"{url}/ready").status_code == 503)  # a signal takes a moment
        replies = [one.result() for one in running]
        assert time.monotonic() - start < 25  # less than a message that is not read holds its sender
        assert {reply.status_code for reply in replies} == {503}
        assert all("is stopped" in reply.text or "was closed" in reply.text for reply in replies)
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE + 5) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["engine", "grammar"])
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=lambda how: how.name)
def test_sigterm_ends_it(demo_folder, tmp_path, kind, how):
    one, another = (
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string", "maxLength": length}}}
        for length in (6, 7)
    )
    with serve([demo_folder.path], tmp_path / "log") as (url, process):
        body = LONG | {"max_tokens": 4, "response_format": one}
        assert httpx2.post(f"{url}{CHAT}", json=body, timeout=60).status_code == 200
        (worker,) = workers(process, kind)
        os.kill(worker, how)
        with asked(url, 4, response_format=another) as running:
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(GRACE + 5) == 0
        assert all(isinstance(reply.exception(), httpx2.TransportError | None) for reply in running)


@pytest.mark.slow
def test_a_dead_engine_is_not_ready(demo_folder, tmp_path):
    with serve([demo_folder.path], tmp_path / "log") as (url, process):
        (engine,) = workers(process, "engine")
        os.kill(engine, signal.SIGKILL)
        until(lambda: httpx2.get(f"{url}/ready").status_code == 503)
        assert httpx2.get(f"{url}/health").status_code == 200
        assert httpx2.post(f"{url}{CHAT}", json=LONG | {"max_tokens": 4}, timeout=60).status_code == 200
        assert httpx2.get(f"{url}/ready").status_code == 200


@pytest.mark.slow
def test_sigterm_ends_it_while_it_loads_a_model_for_ever(demo_folder, tmp_path):
    """The engine is stopped again and again, so that it counts neither as lost nor comes to an end."""
    second = shutil.copytree(demo_folder.path, tmp_path / "second")
    with (
        serve([demo_folder.path, second], tmp_path / "log") as (url, process),
        ThreadPoolExecutor(2) as pool,
    ):
        (first,) = workers(process, "engine")
        body = LONG | {"model": "second", "max_tokens": 4}
        pool.submit(httpx2.post, f"{url}{CHAT}", json=body, timeout=60)
        until(lambda: len(workers(process, "engine")) == 2)
        (loading,) = {*workers(process, "engine")} - {first}
        pool.submit(hold_up, loading)
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE + 5) == 0
        until(lambda: not psutil.pid_exists(loading) or psutil.Process(loading).status() == psutil.STATUS_ZOMBIE)


def hold_up(pid):
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(1)
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.001)


@pytest.mark.slow
def test_sighup_ends_it_in_order(demo_folder, tmp_path):
    with (
        program(demo_folder.path, "--device", "CPU", log=tmp_path / "log") as (url, process),
        httpx2.stream("POST", f"{url}{CHAT}", json=LONG | {"stream": True}, timeout=60) as stream,
    ):
        lines = stream.iter_lines()
        next(line for line in lines if line.startswith("data: "))  # after the heartbeats
        process.send_signal(signal.SIGHUP)
        rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert '"finish_reason":"length"' in rest[-2]
        assert process.wait(20) == 0


@pytest.mark.slow
def test_nohup_is_obeyed(demo_folder, tmp_path):
    with serve([demo_folder.path], tmp_path / "log", prefix=["nohup"]) as (url, process):
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert httpx2.get(f"{url}/ready").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE + 5) == 0
